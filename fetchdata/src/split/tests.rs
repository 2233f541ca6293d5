//! The split must match what a parser of the whole file sees, for any block size and any reads.

use std::io::Cursor;

use mysimbdp_model::records::Scanner;
use proptest::prelude::*;

use super::*;

fn client() -> ClientId {
    "client1".parse().expect("client id")
}

fn cut(content: &[u8], format: Format, block: u64, read_bytes: usize) -> Result<Split, SplitError> {
    cut_as(Encoding::Utf8, content, format, block, read_bytes)
}

fn cut_as(
    encoding: Encoding,
    content: &[u8],
    format: Format,
    block: u64,
    read_bytes: usize,
) -> Result<Split, SplitError> {
    cut_for(true, encoding, content, format, block, read_bytes)
}

/// For an app that keeps files as they are: nothing that can be split is refused.
fn cut_unread(content: &[u8], format: Format, block: u64, read_bytes: usize) -> Result<Split, SplitError> {
    cut_for(false, Encoding::Utf8, content, format, block, read_bytes)
}

fn cut_for(
    is_read: bool,
    encoding: Encoding,
    content: &[u8],
    format: Format,
    block: u64,
    read_bytes: usize,
) -> Result<Split, SplitError> {
    let client = client();
    let rules = SplitRules {
        client: &client,
        format,
        encoding,
        block_bytes_max: Some(block),
        header: None,
        is_read,
        bytes: content.len() as u64,
    };
    split_by(Cursor::new(content), &rules, read_bytes)
}

fn reasons(content: &[u8], format: Format) -> Vec<String> {
    match cut(content, format, 10, 4) {
        Err(SplitError::Content(objections)) => reason::texts(&objections),
        other => panic!("expected reasons, got {other:?}"),
    }
}

fn bytes_of<'a>(content: &'a [u8], range: &MicroBatchRange) -> &'a [u8] {
    &content[range.offset as usize..(range.offset + range.length) as usize]
}

/// What must hold of any split, whatever the format.
fn check(content: &[u8], split: &Split, block: u64) {
    let mut offset = split.prefix.length;
    let mut record = 0;
    for range in &split.ranges {
        assert_eq!((range.offset, range.first_record), (offset, record));
        assert!(range.length <= block || range.records <= 1, "{range:?} is larger than a block of {block}");
        assert_eq!(range.xxh3, xxhash_rust::xxh3::xxh3_64(bytes_of(content, range)), "{range:?}");
        offset += range.length;
        record += range.records;
    }
    assert_eq!((offset, record), (content.len() as u64, split.records));
    assert_eq!(split.bytes, content.len() as u64);
    let hash = blake3::hash(content);
    assert_eq!(split.blake3, hash.to_string());
    assert_eq!(split.ingestion, IngestionId::new(&client(), &hash));
}

/// The records, one by one. Each range must contain as many as the split has counted there.
fn records(content: &[u8], split: &Split, format: Format) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for range in &split.ranges {
        let mut scanner = Scanner::new(format).expect("a format with boundaries");
        let (bytes, mut at, mut found) = (bytes_of(content, range), 0, Vec::new());
        while at < bytes.len() {
            let (count, record) = scanner.read(&bytes[at..]);
            at += count;
            found.extend(record);
        }
        found.extend(scanner.finish());
        assert_eq!(found.len() as u64, range.records, "{range:?} of {content:?}");
        records
            .extend(found.into_iter().map(|found| bytes[found.start as usize..found.end as usize].to_vec()));
    }
    records
}

type Rows = Vec<Vec<Vec<u8>>>;

/// Reads as an app does: the first record is the header.
fn csv_rows(content: &[u8]) -> Rows {
    let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(content);
    reader.byte_records().map(|row| row.expect("row").iter().map(<[u8]>::to_vec).collect()).collect()
}

/// One record, without the end of its line.
fn csv_row(record: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(record);
    let rows: Vec<_> = reader.byte_records().map(|row| row.expect("row")).collect();
    assert_eq!(rows.len(), 1, "{record:?}");
    rows[0].iter().map(<[u8]>::to_vec).collect()
}

fn check_csv(content: &[u8], block: u64, read_bytes: usize) {
    let unread = cut_unread(content, Format::Csv, block, read_bytes);
    if let Ok(read) = cut(content, Format::Csv, block, read_bytes) {
        let same = Split { columns: Vec::new(), ..read };
        assert_eq!(Some(&same), unread.as_ref().ok(), "content that is read is split in the same way");
    }
    match unread {
        Ok(split) => {
            check(content, &split, block);
            let mut rows = Rows::new();
            for range in &split.ranges {
                let mut fed = content[..split.prefix.length as usize].to_vec();
                fed.extend_from_slice(bytes_of(content, range));
                let of_range = csv_rows(&fed);
                assert_eq!(of_range.len() as u64, range.records, "{range:?}");
                rows.extend(of_range);
            }
            assert_eq!(rows, csv_rows(content));
            let alone: Rows =
                records(content, &split, Format::Csv).iter().map(|record| csv_row(record)).collect();
            assert_eq!(rows, alone);
        }
        Err(SplitError::Content(reasons)) => assert!(!reasons.is_empty()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn csv_files_of_every_kind_split_into_what_the_csv_crate_reads() {
    let corpus: [&[u8]; 16] = [
        b"a,b\n1,2\n3,4\n",
        b"a,b\r\n1,2\r\n3,4",
        b"a,b\r1,2\r3,4\r",
        b"\xef\xbb\xbf\"a\nx\",b\n1,2\n",
        b"\n\r\n\na,b\n\n\n1,2\n\r\n\r\n3,4\n\n",
        b"a\n\"1\n2\"\n\"3\r\n4\"\n",
        b"a,b\n\"x\"\"y\",\"\"\n\"\"\"\",\"\"\"\"\"\"\n",
        b"a,b\nx\"y,z\"\"\n5\" disk,\"6\"\n",
        b"a,b\n\"x\"y\"z,1\n\"x\" \"y\n2,3\n",
        b"a,b\n,\"1\n2\"\n,,,\"3\n\n4\",\n",
        b"a\n \n\t\n\"\"\n",
        b"a,b",
        b"a,b\n",
        b"a,b\r",
        b"\"a\r\n\r\nb\"\r\n1\r\n2\r\n",
        "größe,π\n\"ü\n€\",😀\n".as_bytes(),
    ];
    for content in corpus {
        for block in 1..=(content.len() as u64 + 1) {
            for read_bytes in 1..=(content.len() + 1) {
                check_csv(content, block, read_bytes);
            }
        }
    }
}

#[test]
fn larger_blocks_of_binary_files_end_where_chunks_of_gridfs_do() {
    const CHUNK: u64 = CHUNK_BYTES as u64;
    let content = vec![7; 5 * CHUNK_BYTES as usize + 1];
    for (block, length) in [
        (CHUNK - 1, CHUNK - 1),
        (CHUNK, CHUNK),
        (CHUNK + 1, CHUNK),
        (2 * CHUNK - 1, CHUNK),
        (3 * CHUNK + 7, 3 * CHUNK),
    ] {
        let split = cut(&content, Format::Binary, block, READ_BYTES).expect("split");
        check(&content, &split, block);
        let lengths: Vec<u64> = split.ranges.iter().map(|range| range.length).collect();
        assert!(lengths.iter().rev().skip(1).all(|found| *found == length), "{block}: {lengths:?}");
    }
}

#[test]
fn a_header_alone_is_one_micro_batch_of_no_record() {
    let split = cut(b"a,b\n", Format::Csv, 10, 4).expect("split");
    assert_eq!(
        (split.records, split.prefix.length, split.ranges.len(), split.ranges[0].length),
        (0, 4, 1, 0)
    );
}

#[test]
fn without_a_block_size_the_file_is_one_micro_batch() {
    let client = client();
    let content = b"a\n1\n2\n3\n";
    let rules = SplitRules {
        client: &client,
        format: Format::Csv,
        encoding: Encoding::Utf8,
        block_bytes_max: None,
        header: None,
        is_read: true,
        bytes: content.len() as u64,
    };
    let split = split(Cursor::new(content), &rules).expect("split");
    assert_eq!((split.ranges.len(), split.records), (1, 3));
}

#[test]
fn a_tiny_block_cannot_make_more_micro_batches_than_there_are_file_names() {
    let content = b"1\n".repeat(200_000);
    let split = cut(&content, Format::Ndjson, 1, READ_BYTES).expect("split");
    assert!((40_000..=99_999).contains(&split.ranges.len()), "{}", split.ranges.len());
    check(&content, &split, 9);
}

#[test]
fn faults_of_text_and_of_structure_are_both_reported() {
    assert_eq!(reasons(b"", Format::Csv), ["is empty"]);
    assert_eq!(reasons(b"", Format::Binary), ["is empty"]);
    assert_eq!(reasons(b"\xff\xfea\0,\0", Format::Csv), ["is UTF-16, expected UTF-8"]);
    assert_eq!(reasons(b"a,b\n1,\0\n", Format::Csv), ["line 2 has a NUL byte"]);
    assert_eq!(reasons(b"\n\r\n\n", Format::Csv), ["has no header line"]);
    assert_eq!(reasons(b"\xef\xbb\xbf", Format::Csv), ["has no header line"]);
    assert_eq!(
        reasons(b"a,b\n1,\"2\n3\n\n", Format::Csv),
        ["the quoted field that begins at line 2 is never closed"]
    );
    assert_eq!(
        reasons(b"a\n\"x\ny\"\n\"\n", Format::Csv),
        ["the quoted field that begins at line 4 is never closed"]
    );
    assert_eq!(
        reasons(b"[1,\xff}", Format::Json),
        ["line 1 is not UTF-8", "element 1 has an unmatched }, at byte 4"]
    );
}

#[test]
fn a_header_that_never_ends_is_refused_in_bounded_memory() {
    let wide = format!("{}\n1\n", "column,".repeat(1_000_000));
    assert_eq!(reasons(wide.as_bytes(), Format::Csv), ["header line is larger than 1048576 bytes"]);
}

#[test]
fn a_header_other_than_the_configured_one_is_refused() {
    let client = client();
    let inspect = |content: &[u8], expected: &[&str], encoding| {
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        let rules = SplitRules {
            client: &client,
            format: Format::Csv,
            encoding,
            block_bytes_max: None,
            header: Some(&expected),
            is_read: true,
            bytes: content.len() as u64,
        };
        split(Cursor::new(content), &rules).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(inspect(b"\xef\xbb\xbfa,\"b\"\n1,2\n", &["a", "b"], Encoding::Utf8), Ok(()));
    assert_eq!(inspect(b"gr\xf6\xdfe\n1\n", &["größe"], Encoding::Latin1), Ok(()));
    for (content, expected) in [(b"b,a\n1,2\n", ["a", "b"].as_slice()), (b"a,b\n1,2\n", &["a"])] {
        let refused = inspect(content, expected, Encoding::Utf8).expect_err("another header");
        assert!(refused.contains("header is") && refused.contains(&expected.join(",")), "{refused}");
    }
}

#[test]
fn invalid_json_arrays_are_refused_with_the_position() {
    let cases: [(&[u8], &str); 11] = [
        (b"7", "is not a JSON array: it does not begin with ["),
        (b"  \n ", "is not a JSON array: it is blank"),
        (b"[1,2", "is not a complete JSON array: it ends within element 1"),
        (b"[\"a]", "is not a complete JSON array: it ends within element 0"),
        (b"[1,]", "element 1 is missing, at byte 3"),
        (b"[,1]", "element 0 is missing, at byte 1"),
        (b"[1,,2]", "element 1 is missing, at byte 3"),
        (b"[1] x", "has content after the end of the array, at byte 4"),
        (b"[1]]", "has content after the end of the array, at byte 3"),
        (b"[{]}]", "element 0 has an unmatched ], at byte 2"),
        (b"[1}]", "element 0 has an unmatched }, at byte 2"),
    ];
    for (content, reason) in cases {
        assert_eq!(reasons(content, Format::Json), [reason], "{}", String::from_utf8_lossy(content));
    }
    let deep = "[".repeat(100_000);
    assert!(reasons(deep.as_bytes(), Format::Json)[0].contains("nested deeper than 1000 levels"));
}

#[test]
fn an_empty_array_has_one_micro_batch_that_contains_its_end() {
    let split = cut(b" [ ] \n", Format::Json, 10, 3).expect("split");
    assert_eq!((split.prefix.length, split.records, split.ranges.len()), (3, 0, 1));
    check(b" [ ] \n", &split, 10);
}

/// The elements of a range, as the app is fed them.
fn json_elements(content: &[u8], range: &MicroBatchRange) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(bytes_of(content, range)).expect("text").trim_end();
    let text = text.strip_suffix(',').or_else(|| text.strip_suffix(']')).unwrap_or(text);
    serde_json::from_str(&format!("[{text}]")).expect("whole elements")
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-zäß\"\\\\,\\[\\]{}\n€😀]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec(("[a-z\"\\]]{0,3}", inner), 0..4)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn csv_of_any_characters_splits_into_what_the_csv_crate_reads(
        content in "[ab,\"\r\n ]{1,60}", block in 1u64..70, read_bytes in 1usize..70,
    ) {
        check_csv(content.as_bytes(), block, read_bytes);
    }

    #[test]
    fn csv_as_written_by_the_csv_crate_is_never_refused(
        rows in prop::collection::vec(prop::collection::vec("[a-cü,\"\r\n]{0,5}", 2..4), 1..12),
        block in 1u64..100, read_bytes in 1usize..100,
    ) {
        let mut writer = ::csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        for row in &rows {
            writer.write_record(row).expect("row");
        }
        let content = writer.into_inner().expect("content");
        let split = cut_unread(&content, Format::Csv, block, read_bytes).expect("split");
        prop_assert_eq!(split.records, rows.len() as u64 - 1);
        check_csv(&content, block, read_bytes);
    }

    #[test]
    fn each_line_of_ndjson_that_is_not_blank_is_a_record(
        bom in any::<bool>(),
        content in "([{}a-cü]{0,6}|[ \t\r]{0,2}|\n){1,20}", block in 1u64..70, read_bytes in 1usize..70,
    ) {
        let content = if bom { format!("\u{feff}{content}x") } else { format!("{content}x") };
        let split = cut_unread(content.as_bytes(), Format::Ndjson, block, read_bytes).expect("split");
        check(content.as_bytes(), &split, block);
        let lines = |bytes: &[u8]| bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).count() as u64;
        prop_assert_eq!(split.prefix.length, if bom { 3 } else { 0 });
        prop_assert_eq!(split.records, lines(&content.as_bytes()[split.prefix.length as usize..]));
        for range in &split.ranges {
            prop_assert_eq!(range.records, lines(bytes_of(content.as_bytes(), range)));
        }
        let lines = content.trim_start_matches('\u{feff}').split('\n').filter(|line| !line.trim_ascii().is_empty());
        let lines: Vec<Vec<u8>> = lines.map(|line| line.trim_end_matches('\r').as_bytes().to_vec()).collect();
        prop_assert_eq!(records(content.as_bytes(), &split, Format::Ndjson), lines);
    }

    #[test]
    fn json_arrays_split_into_the_elements_that_serde_json_reads(
        values in prop::collection::vec(json_value(), 0..8),
        pretty in any::<bool>(), space in "[ \n\t\r]{0,3}",
        block in 1u64..120, read_bytes in 1usize..120,
    ) {
        let array = serde_json::Value::from(values.clone());
        let text = if pretty { serde_json::to_string_pretty(&array) } else { serde_json::to_string(&array) };
        let content = format!("{space}{}{space}", text.expect("text"));
        let split = cut(content.as_bytes(), Format::Json, block, read_bytes).expect("split");
        check(content.as_bytes(), &split, block);
        let mut found = Vec::new();
        for range in &split.ranges {
            let elements = json_elements(content.as_bytes(), range);
            prop_assert_eq!(elements.len() as u64, range.records);
            found.extend(elements);
        }
        prop_assert_eq!(&found, &values);
        let alone = records(content.as_bytes(), &split, Format::Json);
        let alone: Vec<serde_json::Value> =
            alone.iter().map(|element| serde_json::from_slice(element).expect("an element")).collect();
        prop_assert_eq!(alone, values);
    }

    #[test]
    fn binary_files_are_cut_into_blocks_and_count_as_one_record(
        content in prop::collection::vec(any::<u8>(), 1..200), block in 1u64..210, read_bytes in 1usize..210,
    ) {
        let split = cut(&content, Format::Binary, block, read_bytes).expect("split");
        check(&content, &split, block);
        prop_assert_eq!(split.records, 1);
        prop_assert_eq!(split.ranges.len() as u64, (content.len() as u64).div_ceil(block));
        prop_assert!(split.ranges.iter().rev().skip(1).all(|range| range.length == block));
    }

    #[test]
    fn arbitrary_bytes_are_split_or_refused_with_reasons(
        content in prop::collection::vec(any::<u8>(), 0..80), block in 1u64..90, read_bytes in 1usize..90,
    ) {
        for format in [Format::Csv, Format::Ndjson, Format::Json, Format::Binary] {
            match cut(&content, format, block, read_bytes) {
                Ok(split) => check(&content, &split, block),
                Err(SplitError::Content(reasons)) => prop_assert!(!reasons.is_empty()),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The same for input that is hard for splitters, in each encoding and for any size of reads.
    #[test]
    fn quotes_brackets_marks_and_line_ends_are_split_or_refused_with_reasons(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60), block in 1u64..90, read_bytes in 1usize..90,
    ) {
        let content = pieces.concat();
        for format in [Format::Csv, Format::Ndjson, Format::Json, Format::Binary] {
            for encoding in [Encoding::Utf8, Encoding::Latin1, Encoding::Windows1252] {
                let split = cut_as(encoding, &content, format, block, read_bytes);
                match &split {
                    Ok(split) => {
                        check(&content, split, block);
                        if format != Format::Binary {
                            records(&content, split, format);
                        }
                    }
                    Err(SplitError::Content(reasons)) => prop_assert!(!reasons.is_empty()),
                    Err(error) => panic!("{error}"),
                }
                let at_once = cut_as(encoding, &content, format, block, READ_BYTES);
                prop_assert_eq!(split.ok(), at_once.ok(), "{:?} {:?}", format, encoding);
            }
        }
    }
}

const PIECES: [&[u8]; 24] = [
    b"\"",
    b"\"\"",
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\\",
    b":",
    b" ",
    b"\t",
    b"\x0c",
    b"\x0b",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xff",
    b"\xe2\x82",
    "\u{20ac}".as_bytes(),
    b"a",
    b"1",
];

#[test]
fn a_mark_of_utf8_is_text_in_another_encoding() {
    for (format, content, records) in [
        (Format::Csv, b"\xef\xbb\xbf\"a\nb\n1\n".as_slice(), 2),
        (Format::Ndjson, b"\xef\xbb\xbf{}\n{}\n", 2),
    ] {
        let split = cut_as(Encoding::Latin1, content, format, 4, 5).expect("split");
        assert_eq!(split.records, records, "{format:?}");
        check(content, &split, 4);
    }
    let array = cut_as(Encoding::Windows1252, b"\xef\xbb\xbf[1]", Format::Json, 4, 5);
    assert!(matches!(array, Err(SplitError::Content(_))), "{array:?}");
}
