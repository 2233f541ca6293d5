//! Reads what [`super::Timing::log`] has written.

use std::collections::BTreeMap;

use super::Stage;

/// The parts of a log's TIMING line that are summarised.
#[derive(Clone, Debug, PartialEq)]
pub struct TimingLine {
    pub client: String,
    pub stage: Stage,
    pub bytes: f64,
    pub records: f64,
    pub seconds: f64,
}

impl TimingLine {
    /// Parses `<time> INFO <process_name>: TIMING <fields>`; `None` for any other line. The word alone is not enough: a file name may
    /// contain it.
    pub fn parse(line: &str) -> Option<Self> {
        let (_time, remainder) = line.split_once(' ')?;
        let (_process, fields) = remainder.strip_prefix("INFO ")?.split_once(": ")?;
        let fields = logfmt(fields.strip_prefix("TIMING ")?);
        let number = |name: &str| fields.get(name)?.parse().ok().filter(|value: &f64| value.is_finite());
        Some(Self {
            client: fields.get("client")?.clone(),
            stage: fields.get("stage")?.parse().ok()?,
            bytes: number("bytes")?,
            records: number("records")?,
            seconds: number("seconds")?,
        })
    }
}

/// The fields of a logfmt line; values may be quoted, with backslash escapes.
fn logfmt(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut unread = text.trim_start();
    while let Some((name, after)) = unread.split_once('=') {
        let (value, remainder) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = end_of_quoted(quoted);
                (&quoted[..end], quoted.get(end + 1..).unwrap_or(""))
            }
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        fields.insert(name.to_owned(), value.to_owned());
        unread = remainder.trim_start();
    }
    fields
}

fn end_of_quoted(text: &str) -> usize {
    let mut escaped = false;
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return position,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(client: &str, stage: Stage, bytes: f64, seconds: f64) -> TimingLine {
        TimingLine { client: client.into(), stage, bytes, records: 10.0, seconds }
    }

    #[test]
    fn a_timing_line_is_parsed_whatever_the_name_of_the_file() {
        let text = r#"2026-01-01T00:00:00Z INFO fetchdata: TIMING stage=split client=client1 ingestion=ab file="a \" seconds=9 b.csv" bytes=20 records=10 seconds=0.5 mb_s=0.0"#;
        assert_eq!(TimingLine::parse(text), Some(line("client1", Stage::Split, 20.0, 0.5)));
        assert_eq!(TimingLine::parse("2026-01-01T00:00:00Z INFO fetchdata: staged client=a"), None);
        assert_eq!(
            TimingLine::parse("x INFO r: TIMING stage=split client=a bytes=x records=1 seconds=1"),
            None
        );
    }

    #[test]
    fn a_timing_line_in_a_file_name_is_ignored() {
        let name = "x TIMING stage=split client=b bytes=1 records=1 seconds=9 y.csv";
        let event =
            format!("2026-01-01T00:00:00Z WARN fetchdata: discarded client=a file=\"{name}\" bytes=20");
        assert_eq!(TimingLine::parse(&event), None);
        assert_eq!(TimingLine::parse(&event.replace("WARN", "INFO").replace("a file=", "a: file=")), None);
        let timed = format!(
            "2026-01-01T00:00:00Z INFO fetchdata: TIMING stage=split client=a file=\"{name}\" bytes=20 records=10 seconds=0.5"
        );
        assert_eq!(TimingLine::parse(&timed), Some(line("a", Stage::Split, 20.0, 0.5)));
    }

    #[test]
    fn each_stage_is_parsed_from_the_name_that_is_logged() {
        for stage in Stage::ALL {
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        assert!("another".parse::<Stage>().is_err());
    }
}
