//! Rejected records in the format of their file.

use mysimbdp_model::manifest::Format;

/// Puts rejected records together in the format of their file: first [`RejectedExport::begin`], then each record in its
/// [`RecordFrame`], then [`RejectedExport::end`].
#[derive(Debug)]
pub struct RejectedExport {
    format: Format,
    is_empty: bool,
}

/// The bytes around a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFrame {
    pub before: &'static [u8],
    pub after: &'static [u8],
}

impl RejectedExport {
    pub fn new(format: Format) -> Self {
        Self { format, is_empty: true }
    }

    /// The pieces in front of the first record. `prefix` is that of the file.
    pub fn begin<'a>(&self, prefix: &'a [u8]) -> [&'a [u8]; 2] {
        match self.format {
            Format::Csv => [prefix, if is_line(prefix) { b"" } else { b"\n" }],
            Format::Ndjson => [prefix, b""],
            Format::Json => [b"[", b""],
            Format::Binary => [b"", b""],
        }
    }

    /// What surrounds the next record.
    pub fn next_frame(&mut self) -> RecordFrame {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let (before, after): (&[u8], &[u8]) = match self.format {
            Format::Csv | Format::Ndjson => (b"", b"\n"),
            Format::Json if is_first => (b"\n", b""),
            Format::Json => (b",\n", b""),
            Format::Binary => (b"", b""),
        };
        RecordFrame { before, after }
    }

    /// What follows the last record.
    pub fn end(self) -> &'static [u8] {
        match self.format {
            Format::Json => b"\n]\n",
            Format::Csv | Format::Ndjson | Format::Binary => b"",
        }
    }
}

fn is_line(bytes: &[u8]) -> bool {
    bytes.last().is_none_or(|byte| matches!(byte, b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported(format: Format, prefix: &str, records: &[&str]) -> String {
        let mut export = RejectedExport::new(format);
        let mut bytes = export.begin(prefix.as_bytes()).concat();
        for record in records {
            let frame = export.next_frame();
            bytes.extend([frame.before, record.as_bytes(), frame.after].concat());
        }
        bytes.extend(export.end());
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn records_are_exported_in_the_format_of_their_file() {
        for (format, prefix, records, expected) in [
            (Format::Csv, "a,b\r\n", &["1,x", "2,\"y\n\""][..], "a,b\r\n1,x\n2,\"y\n\"\n"),
            (Format::Csv, "a,b", &["1,x"], "a,b\n1,x\n"),
            (Format::Csv, "\u{feff}a,b\r", &["1,x"], "\u{feff}a,b\r1,x\n"),
            (Format::Csv, "", &[], ""),
            (Format::Ndjson, "\u{feff}", &["{}", "[1]"], "\u{feff}{}\n[1]\n"),
            (Format::Json, "", &[], "[\n]\n"),
            (Format::Json, "", &["1"], "[\n1\n]\n"),
            (Format::Json, "\u{feff}", &["1", "{}", "[]"], "[\n1,\n{},\n[]\n]\n"),
            (Format::Binary, "", &["all of it"], "all of it"),
        ] {
            assert_eq!(exported(format, prefix, records), expected, "{format:?} {records:?}");
        }
    }
}
