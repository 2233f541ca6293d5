//! Files that are not what they claim to be are refused, with the remedy; files that merely look so are accepted.

use std::io::Cursor;

use super::*;

fn split_as(encoding: Encoding, is_read: bool, format: Format, content: &[u8]) -> Result<u64, Vec<String>> {
    let client = "client1".parse().expect("client id");
    let rules = SplitRules {
        client: &client,
        format,
        encoding,
        block_bytes_max: Some(20),
        header: None,
        is_read,
        bytes: content.len() as u64,
    };
    let split = |read_bytes| match split_by(Cursor::new(content), &rules, read_bytes) {
        Ok(split) => Ok(split.records),
        Err(SplitError::Content(objections)) => Err(reason::texts(&objections)),
        Err(error) => panic!("{error}"),
    };
    let at_once = split(READ_BYTES);
    assert_eq!(split(5), at_once, "{}", String::from_utf8_lossy(content));
    at_once
}

#[track_caller]
fn refused(format: Format, content: &str, reason: &str) {
    let found = split_as(Encoding::Utf8, true, format, content.as_bytes());
    assert_eq!(found, Err(vec![reason.to_owned()]), "{content:?}");
    // None of that matters to an app that keeps the bytes.
    if format != Format::Json {
        assert!(split_as(Encoding::Utf8, false, format, content.as_bytes()).is_ok(), "{content:?}");
    }
}

#[track_caller]
fn accepted(format: Format, content: &str, records: u64) {
    assert_eq!(split_as(Encoding::Utf8, true, format, content.as_bytes()), Ok(records), "{content:?}");
}

#[test]
fn fields_separated_by_something_other_than_commas_are_refused() {
    let reason = |byte: char| {
        format!(
            "has one column, and {byte:?} in its lines as often as in the header: fields must be separated by commas"
        )
    };
    for byte in [';', '\t', '|'] {
        let text = |lines: &str| lines.replace(';', &byte.to_string());
        refused(Format::Csv, &text("a;b\n1;2\n3;4\n"), &reason(byte));
        // With decimal commas, without a final line break, and with a single bad line.
        refused(Format::Csv, &text("a;b;c\n1,5;2;x\n2,5;3;y"), &reason(byte));
        refused(Format::Csv, &text(&format!("a;b\n{}1\n", "1;2\n".repeat(9))), &reason(byte));
        refused(Format::Csv, &text("1;2\r\n3;4\r\n"), &reason(byte));
        let quoted = text("a;b\n\"x\";2\n");
        let reason = format!("line 2 has {byte:?} after a quoted field: fields must be separated by commas");
        refused(Format::Csv, &quoted, &reason);
        refused(Format::Csv, &text("\"a\";\"b\"\n"), &reason.replace("line 2", "line 1"));
    }
    // Free text with occasional separators; a header of one name that contains a separator; names and values whose
    // quotes make it clear.
    accepted(Format::Csv, "text\na;b\nc;d\n", 2);
    accepted(Format::Csv, "text; free\na;b\nc\nd;e;f\ng\n", 4);
    accepted(Format::Csv, "km|h\n1\n2\n", 2);
    accepted(Format::Csv, "\"a;b\"\n1;2\n3;4\n", 2);
    accepted(Format::Csv, "a;b\n\"1;2\"\n\"3;4\"\n", 2);
    accepted(Format::Csv, "a;b,c\n1;2,3\n", 1);
    accepted(Format::Csv, "a;b\n", 0);
}

#[test]
fn text_after_a_closing_quote_is_refused() {
    let doubled = "a quote in a quoted field must be written twice, \"\"";
    refused(Format::Csv, "a,b\n\"x\"y,1\n", &format!("line 2 has text after a closing quote: {doubled}"));
    refused(Format::Csv, "a,b\n\"x\" ,1\n", &format!("line 2 has text after a closing quote: {doubled}"));
    refused(
        Format::Csv,
        "a,b\n1,\"two\nlines\"z\n",
        &format!("line 3 has text after a closing quote: {doubled}"),
    );
    let backslash = format!("line 2 has \\\" in a quoted field: {doubled}");
    refused(Format::Csv, "id,text\n1,\"say \\\"hi\\\" now\"\n2,plain\n", &backslash);
    refused(Format::Csv, "id,text\n2,\"a, \\\"b\\\", c\"\n", &backslash);
    // Read as written, it would be two other records.
    refused(Format::Csv, "id,text\n3,\"line1\\\"\nline2\",x\n", &backslash);
    accepted(Format::Csv, "id,text\n1,\"say \"\"hi\"\" now\"\n2,\"\"\n", 2);
    accepted(Format::Csv, "path,b\n\"C:\\temp\\\",1\n\"D:\\\",2\n", 2);
    accepted(Format::Csv, "path,size\n\"C:\\temp\\\",1\nx,2\ny,5\" disk\n", 3);
    accepted(Format::Csv, "a,b\n5\" disk,say \"hi\"\n", 1);
}

#[test]
fn lines_before_the_header_are_refused() {
    let reason = |header: &str, fields: u64, rows: u64| {
        format!(
            "none of {rows} rows has as many fields ({fields}) as the header {header:?}: \
             what comes before the header, such as comments or a title, must be removed"
        )
    };
    refused(Format::Csv, "# exported by x\na,b\n1,2\n3,4\n", &reason("# exported by x", 1, 3));
    refused(Format::Csv, "# exported by x\n# 2026\na,b\n1,2\n", &reason("# exported by x", 1, 2));
    refused(Format::Csv, "Sales\n\na,b\n1,2\n", &reason("Sales", 1, 2));
    refused(Format::Csv, "# a, of b, in c\n#\n#\nx,y\n1,2\n", &reason("# a, of b, in c", 3, 2));
    // Some rows with the wrong number of fields are rejects, and so is a single one.
    accepted(Format::Csv, "a,b\n1\n1,2\n1,2,3\n", 3);
    accepted(Format::Csv, "a,b\n1\n", 1);
    accepted(Format::Csv, "#,name\n1,x\n2,y\n", 2);
    accepted(Format::Csv, "# of items\n1\n2\n", 2);
    accepted(Format::Csv, "#tag\n#a\n#b\n", 2);
}

#[test]
fn rows_without_a_header_are_refused() {
    let remedy = "if the header is missing, add one; if this is the header, set it in \"files.header\"";
    refused(Format::Csv, "1,2\n3,4\n5,6\n", &format!("header \"1,2\" has only numbers and dates: {remedy}"));
    refused(
        Format::Csv,
        "2013-01-01,39.02\n2013-01-02,40.1\n",
        &format!("header \"2013-01-01,39.02\" has only numbers and dates: {remedy}"),
    );
    refused(Format::Csv, "x,x,y\nx,y,x\n", &format!("header has \"x\" twice: {remedy}"));
    accepted(Format::Csv, "name,2019,2020\nx,5,6\n", 1);
}

#[test]
fn windows_1252_that_is_declared_as_iso_8859_1_is_refused_with_the_remedy() {
    let content = b"name,price\nM\xfcller,5 \x80\nO\x92Neil,\x931\x94\n";
    let reason = "line 2 has the byte 0x80, which is not text in iso-8859-1; if it is Windows-1252, set \
                  \"files.encoding\" to \"windows-1252\"";
    assert_eq!(split_as(Encoding::Latin1, true, Format::Csv, content), Err(vec![reason.to_owned()]));
    assert_eq!(split_as(Encoding::Windows1252, true, Format::Csv, content), Ok(2));
}

#[test]
fn ndjson_named_json_and_json_over_several_lines_are_refused() {
    refused(
        Format::Json,
        "{\"a\":1}\n{\"a\":2}\n",
        "is not a JSON array: it begins with {; one object per line is NDJSON, which is named .ndjson, or the app has \
         \"format\": \"ndjson\"",
    );
    let lines = "is not NDJSON: its first value spans several lines; each value must be on one line";
    refused(Format::Ndjson, "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n", lines);
    refused(Format::Ndjson, "\u{feff}\n{ \"a\": [1,\n 2]}", lines);
    let array = "is not NDJSON: its first value spans several lines; a JSON array is named .json, or the app has \"format\": \"json\"";
    refused(Format::Ndjson, "[\n{\"a\":1},\n{\"a\":2}\n]\n", array);
    let long = format!("{{\"a\":\n\"{}\"}}\n", "x".repeat(60_000));
    refused(Format::Ndjson, &long, lines);
    // Broken lines are rejects, wherever they are, and so is a value that is too long to be inspected.
    accepted(Format::Ndjson, "{\"a\":1}\n{\n\"b\":2}\n", 3);
    accepted(Format::Ndjson, "{\"a\":1,\"b\n{\"a\":2}\n", 2);
    accepted(Format::Ndjson, "{\"a\":\n", 1);
    accepted(Format::Ndjson, "1\n2\n", 2);
    accepted(Format::Ndjson, &format!("{{\"a\":\n\"{}\"}}\n", "x".repeat(70_000)), 2);
}
