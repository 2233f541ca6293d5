//! What is stored of a table is what the table says: written as CSV in any allowed way, split anywhere, read by the
//! column types.

use std::collections::HashMap;
use std::io::Cursor;

use ::csv::{QuoteStyle, Terminator, WriterBuilder};
use bson::Bson;
use mysimbdp_model::column::{ColumnType, ColumnValues};
use mysimbdp_sdk::record::{Fields, column};
use proptest::prelude::*;

use super::*;

/// A table, and how it is written. The first row is the header.
#[derive(Clone, Debug)]
struct Table {
    rows: Vec<Vec<String>>,
    quotes: QuoteStyle,
    line_end: &'static str,
    has_mark: bool,
    encoding: Encoding,
}

impl Table {
    fn to_csv(&self) -> Vec<u8> {
        let terminator = match self.line_end {
            "\r\n" => Terminator::CRLF,
            other => Terminator::Any(other.as_bytes()[0]),
        };
        let mut writer =
            WriterBuilder::new().quote_style(self.quotes).terminator(terminator).from_writer(Vec::new());
        self.rows.iter().for_each(|row| writer.write_record(row).expect("write to memory"));
        let text = String::from_utf8(writer.into_inner().expect("content")).expect("text");
        match self.encoding {
            Encoding::Utf8 if self.has_mark => format!("\u{feff}{text}").into_bytes(),
            Encoding::Utf8 => text.into_bytes(),
            single => text
                .chars()
                .map(|letter| byte_of(single, letter).expect("characters of the encoding"))
                .collect(),
        }
    }
}

fn byte_of(encoding: Encoding, letter: char) -> Option<u8> {
    (1..=u8::MAX).find(|byte| encoding.to_text(&[*byte]).is_some_and(|text| text.chars().eq([letter])))
}

/// One value for a column of a kind: most values of a column are of its kind, and a few are not.
fn value(kind: usize) -> BoxedStrategy<String> {
    let alike = match kind {
        0 => any::<i32>().prop_map(|value| value.to_string()).boxed(),
        1 => any::<i64>().prop_map(|value| value.to_string()).boxed(),
        2 => (-1e6..1e6f64).prop_map(|value| value.to_string()).boxed(),
        3 => (-9_999..9_999i32).prop_map(|value| format!("{:?}", f64::from(value) / 10.0)).boxed(),
        4 => any::<bool>().prop_map(|value| value.to_string()).boxed(),
        5 => "[0-9]{1,6}".boxed(),
        6 => "[0-9]E[0-9]".boxed(),
        7 => "[0-9]\\.[0-9]{1,2}".boxed(),
        8 => "(2013|9999)-1[0-2]-[0-3][0-9](T00:00:00Z)?".boxed(),
        9 => "[a-c,;|\"\r\n\t äß€\\\\]{0,5}".boxed(),
        _ => "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{0,4}".boxed(),
    };
    let odd = prop_oneof![
        Just(String::new()),
        Just("NA".to_owned()),
        "[-+]?[0-9]{0,20}[.]?[0-9]{0,20}",
        Just(" ".to_owned())
    ];
    prop_oneof![30 => alike, 1 => odd, 2 => Just(String::new()), 1 => Just("NA".to_owned())].boxed()
}

fn table() -> impl Strategy<Value = Table> {
    let columns = prop::collection::vec((0..11usize, any::<bool>()), 1..5);
    let rows = (columns, 0..12usize).prop_flat_map(|(columns, rows)| {
        let row: Vec<_> = columns.iter().map(|(kind, _)| value(*kind)).collect();
        prop::collection::vec(row, rows)
    });
    let quotes =
        prop::sample::select(vec![QuoteStyle::Necessary, QuoteStyle::NonNumeric, QuoteStyle::Always]);
    let line_end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    let encoding = prop::sample::select(vec![Encoding::Utf8, Encoding::Latin1, Encoding::Windows1252]);
    (rows, quotes, line_end, any::<bool>(), encoding).prop_map(
        |(mut rows, quotes, line_end, has_mark, encoding)| {
            let width = rows.first().map_or(1, Vec::len);
            if encoding != Encoding::Utf8 {
                for field in rows.iter_mut().flatten() {
                    *field = field
                        .chars()
                        .map(|letter| byte_of(encoding, letter).map_or('?', |_| letter))
                        .collect();
                }
            }
            rows.insert(0, (0..width).map(|column| format!("column {column}")).collect());
            Table { rows, quotes, line_end, has_mark, encoding }
        },
    )
}

/// What an app stores of the rows of `content`, fed with the micro-batches of `split`.
fn stored(content: &[u8], encoding: Encoding, split: &Split, nulls: &[String]) -> Vec<Vec<Bson>> {
    let units = Column::values_of(&split.columns);
    let mut all = Vec::new();
    for range in &split.ranges {
        let (prefix, end) = (split.prefix.length as usize, (range.offset + range.length) as usize);
        let mark = if encoding == Encoding::Utf8 && content.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 };
        let fed = [&content[mark..prefix], &content[range.offset as usize..end]].concat();
        let mut reader = ::csv::Reader::from_reader(fed.as_slice());
        for row in reader.byte_records() {
            let row = row.expect("as many fields as the header");
            let value = |(position, bytes): (usize, &[u8])| {
                let text = encoding.to_text(bytes).expect("text of the encoding");
                if text.is_empty() || nulls.contains(&text.clone().into_owned()) {
                    return Bson::Null;
                }
                let kind = units.get(position).map(|values| values.type_without(nulls)).unwrap_or_default();
                let mut fields = Fields::new();
                column::append(&mut fields, "v", &text, kind).expect("a value of its column");
                let document: bson::Document =
                    bson::deserialize_from_slice(&fields.to_document()).expect("valid BSON");
                document.get("v").cloned().expect("the field")
            };
            all.push(row.iter().enumerate().map(value).collect());
        }
    }
    all
}

/// Writing the value gives the text again. Whether a whole double has `.0` is the same in all of its column.
fn round_trips(value: &Bson, text: &str) -> bool {
    match value {
        Bson::Null => text.is_empty(),
        Bson::String(stored) => stored == text,
        Bson::Int32(number) => number.to_string() == text,
        Bson::Int64(number) => number.to_string() == text,
        Bson::Double(number) => text == number.to_string() || text == format!("{number:.1}"),
        Bson::Boolean(value) => value.to_string() == text,
        _ => false,
    }
}

fn check(table: &Table, block: u64, nulls: &[String]) {
    let content = table.to_csv();
    let client = "client1".parse().expect("client id");
    let rules = SplitRules {
        client: &client,
        format: Format::Csv,
        encoding: table.encoding,
        block_bytes_max: Some(block),
        header: None,
        is_read: true,
        bytes: content.len() as u64,
    };
    let split = split_by(Cursor::new(&content), &rules, 7).expect("a valid table");
    assert_eq!(
        split,
        super::split(Cursor::new(&content), &SplitRules { block_bytes_max: Some(block), ..rules })
            .expect("split")
    );
    let stored = stored(&content, table.encoding, &split, nulls);
    assert_eq!(stored.len(), table.rows.len() - 1);
    for column in 0..table.rows[0].len() {
        let (mut texts, mut kinds) = (HashMap::new(), Vec::new());
        for (row, values) in table.rows[1..].iter().zip(&stored) {
            let (text, value) = (&row[column], &values[column]);
            if nulls.contains(text) {
                assert_eq!(value, &Bson::Null);
                continue;
            }
            assert!(round_trips(value, text), "{text:?} is stored as {value:?}");
            let first = texts.entry(value.to_string()).or_insert(text);
            assert_eq!(*first, text, "two texts became one value");
            if *value != Bson::Null {
                kinds.push(value.element_type());
            }
        }
        kinds.dedup();
        assert!(kinds.len() <= 1, "column {column} has values of {kinds:?}: {stored:?}");
    }
}

proptest! {
    #[test]
    fn each_value_of_a_table_round_trips_and_each_column_has_one_type(
        table in table(), block in 1u64..200, has_nulls in any::<bool>(),
    ) {
        let nulls = if has_nulls { vec!["NA".to_owned()] } else { Vec::new() };
        check(&table, block, &nulls);
    }
}

/// The types of the columns of `content`, by name.
fn types(content: &[u8]) -> Vec<(String, ColumnValues)> {
    let client = "client1".parse().expect("client id");
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
    split.columns.into_iter().map(|column| (column.name, column.values)).collect()
}

#[test]
fn ids_that_look_like_numbers_are_text() {
    let content = b"version,sku,zip,quoted,count\n1.10,12E4,01234,\"42\",7\n1.9,2E10,12345,\"007\",8\n";
    let kinds: Vec<ColumnType> = types(content).iter().map(|(_, values)| values.type_without(&[])).collect();
    assert_eq!(
        kinds,
        [ColumnType::String, ColumnType::String, ColumnType::String, ColumnType::String, ColumnType::Int]
    );
}

#[test]
fn the_last_row_counts_as_much_as_the_first() {
    let mut content = b"code,n\n".to_vec();
    (0..300_000).for_each(|row| content.extend_from_slice(format!("{row},{row}\n").as_bytes()));
    content.extend_from_slice(b"0E8,1");
    let found = types(&content);
    assert_eq!(found[0].1.type_without(&[]), ColumnType::String);
    assert_eq!(found[1].1.type_without(&[]), ColumnType::Int);
}

#[test]
fn the_column_types_passed_to_an_app_are_bounded() {
    let words = ["sixteen letters_", "sixteen letters-", "sixteen letters.", "sixteen letters/"];
    let mut content = (0..2_000).map(|column| format!("c{column}")).collect::<Vec<_>>().join(",");
    for value in ["1.5"].iter().chain(&words) {
        content += &format!("\n{}", vec![*value; 2_000].join(","));
    }
    let columns = types(content.as_bytes());
    assert_eq!(columns.len(), ColumnValues::COLUMNS_MAX);
    assert!(columns.iter().all(|(_, values)| values.except == words));
    let sent: Vec<ColumnValues> = columns.into_iter().map(|(_, values)| values).collect();
    // Linux takes 128 KiB in one variable of the environment.
    assert!(serde_json::to_string(&sent).expect("JSON").len() < 128 * 1024);
}
