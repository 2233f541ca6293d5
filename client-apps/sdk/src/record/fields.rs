//! Writes the elements of a BSON document.

use std::io::Write;

use bson::spec::ElementType;

/// The elements of a document, without its length and end: what [`Identity`](crate::identity::Identity) completes.
///
/// The caller answers for the names: each once per document, checked by [`check_name`](super::check_name). Reuse one
/// value for many records with [`Fields::clear`]: its memory stays.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    elements: Vec<u8>,
    /// Type and place of each element that is not inside another.
    tops: Vec<(ElementType, usize)>,
    /// Where the lengths of the documents and arrays lie that are still open.
    open: Vec<usize>,
}

/// One element of a document.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// Its type.
    pub kind: ElementType,
    /// Its name, without the NUL that ends it in BSON.
    pub name: &'a str,
    /// Its value, as BSON writes it.
    pub value: &'a [u8],
}

/// The name of an element.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// In a document. Holds no NUL.
    Key(&'a str),
    /// In an array: its position.
    Index(usize),
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl Fields {
    /// Without elements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it for the next record.
    pub fn clear(&mut self) {
        self.elements.clear();
        self.tops.clear();
        self.open.clear();
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The value that stands for none.
    pub fn null<'a>(&mut self, name: impl Into<Name<'a>>) {
        self.element(ElementType::Null, name.into());
    }

    /// A truth value.
    pub fn bool<'a>(&mut self, name: impl Into<Name<'a>>, value: bool) {
        self.element(ElementType::Boolean, name.into());
        self.elements.push(u8::from(value));
    }

    /// An integer, in 32 bits where it fits.
    pub fn int<'a>(&mut self, name: impl Into<Name<'a>>, value: i64) {
        match i32::try_from(value) {
            Ok(value) => self.int32(name, value),
            Err(_) => self.int64(name, value),
        }
    }

    /// An integer of 32 bits.
    pub fn int32<'a>(&mut self, name: impl Into<Name<'a>>, value: i32) {
        self.element(ElementType::Int32, name.into());
        self.elements.extend_from_slice(&value.to_le_bytes());
    }

    /// An integer of 64 bits, also where 32 would do.
    pub fn int64<'a>(&mut self, name: impl Into<Name<'a>>, value: i64) {
        self.element(ElementType::Int64, name.into());
        self.elements.extend_from_slice(&value.to_le_bytes());
    }

    /// A floating-point number of 64 bits.
    pub fn double<'a>(&mut self, name: impl Into<Name<'a>>, value: f64) {
        self.element(ElementType::Double, name.into());
        self.elements.extend_from_slice(&value.to_le_bytes());
    }

    /// Text.
    pub fn string<'a>(&mut self, name: impl Into<Name<'a>>, value: &str) {
        self.element(ElementType::String, name.into());
        self.elements.extend_from_slice(&length(value.len() + 1));
        self.elements.extend_from_slice(value.as_bytes());
        self.elements.push(0);
    }

    /// A point in time, in milliseconds since 1970 (UTC).
    pub fn date<'a>(&mut self, name: impl Into<Name<'a>>, millis: i64) {
        self.element(ElementType::DateTime, name.into());
        self.elements.extend_from_slice(&millis.to_le_bytes());
    }

    /// Bytes of the generic subtype.
    pub fn binary<'a>(&mut self, name: impl Into<Name<'a>>, value: &[u8]) {
        self.element(ElementType::Binary, name.into());
        self.elements.extend_from_slice(&length(value.len()));
        self.elements.push(0);
        self.elements.extend_from_slice(value);
    }

    /// An ObjectId.
    pub fn object_id<'a>(&mut self, name: impl Into<Name<'a>>, value: bson::oid::ObjectId) {
        self.element(ElementType::ObjectId, name.into());
        self.elements.extend_from_slice(&value.bytes());
    }

    /// Opens a document; what follows is in it, until [`Fields::end`].
    pub fn begin_document<'a>(&mut self, name: impl Into<Name<'a>>) {
        self.begin(ElementType::EmbeddedDocument, name.into());
    }

    /// Opens an array; its elements have the names 0, 1, …, until [`Fields::end`].
    pub fn begin_array<'a>(&mut self, name: impl Into<Name<'a>>) {
        self.begin(ElementType::Array, name.into());
    }

    /// Closes the document or array that was opened last. Without one it does nothing.
    pub fn end(&mut self) {
        let Some(start) = self.open.pop() else { return };
        self.elements.push(0);
        let bytes = length(self.elements.len() - start);
        self.elements[start..start + 4].copy_from_slice(&bytes);
    }

    /// The elements that are not inside another, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        let ends = self.tops.iter().skip(1).map(|&(_, start)| start).chain([self.elements.len()]);
        self.tops.iter().zip(ends).filter_map(|(&(kind, start), end)| {
            let element = &self.elements[start + 1..end];
            let name = element.iter().position(|&byte| byte == 0)?;
            Some(Element {
                kind,
                name: std::str::from_utf8(&element[..name]).ok()?,
                value: &element[name + 1..],
            })
        })
    }

    /// The element of this name that is not inside another.
    pub fn get(&self, name: &str) -> Option<Element<'_>> {
        self.iter().find(|element| element.name == name)
    }

    /// Adds an element of other fields, under the name `name`.
    pub fn copy(&mut self, name: &str, element: Element<'_>) {
        self.element(element.kind, Name::Key(name));
        self.elements.extend_from_slice(element.value);
    }

    /// Adds all elements of other fields.
    pub fn append(&mut self, other: &Self) {
        let offset = self.elements.len();
        if self.open.is_empty() {
            self.tops.extend(other.tops.iter().map(|&(kind, start)| (kind, offset + start)));
        }
        self.elements.extend_from_slice(&other.elements);
    }

    /// The elements as a document of their own.
    pub fn to_document(&self) -> Vec<u8> {
        let mut document = Vec::with_capacity(self.elements.len() + 5);
        document.extend_from_slice(&length(self.elements.len() + 5));
        document.extend_from_slice(&self.elements);
        document.push(0);
        document
    }

    fn begin(&mut self, kind: ElementType, name: Name<'_>) {
        self.element(kind, name);
        self.open.push(self.elements.len());
        self.elements.extend_from_slice(&[0; 4]);
    }

    fn element(&mut self, kind: ElementType, name: Name<'_>) {
        if self.open.is_empty() {
            self.tops.push((kind, self.elements.len()));
        }
        self.elements.push(kind as u8);
        match name {
            Name::Key(key) => self.elements.extend_from_slice(key.as_bytes()),
            Name::Index(index) => write!(self.elements, "{index}").expect("writing to memory does not fail"),
        }
        self.elements.push(0);
    }
}

/// A length as BSON writes it. Values are capped far below 2 GiB before they get here; a larger one would be refused
/// by the store for its size in any case.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    #[test]
    fn what_is_written_is_what_the_bson_crate_reads() {
        let mut fields = Fields::new();
        fields.string("text", "grüße\0");
        fields.null("nothing");
        fields.bool("yes", true);
        fields.int("small", -1);
        fields.int("large", i64::MAX);
        fields.double("double", 0.1);
        fields.date("date", 1_357_020_000_000);
        fields.begin_document("inner");
        fields.begin_array("list");
        for index in 0..12 {
            fields.int(Name::Index(index), index as i64);
        }
        fields.end();
        fields.begin_document("empty");
        fields.end();
        fields.end();
        let read: Document = bson::deserialize_from_slice(&fields.to_document()).expect("valid BSON");
        let expected = doc! {
            "text": "grüße\0", "nothing": null, "yes": true, "small": -1_i32, "large": i64::MAX, "double": 0.1,
            "date": bson::DateTime::from_millis(1_357_020_000_000),
            "inner": { "list": (0..12).collect::<Vec<i32>>(), "empty": {} },
        };
        assert_eq!(read, expected);
        let names: Vec<&str> = fields.iter().map(|element| element.name).collect();
        assert_eq!(names, ["text", "nothing", "yes", "small", "large", "double", "date", "inner"]);
        assert_eq!(fields.get("small").map(|element| element.value), Some([0xff; 4].as_slice()));
        assert!(fields.get("list").is_none());
    }

    #[test]
    fn cleared_fields_hold_nothing_of_the_record_before() {
        let mut fields = Fields::new();
        fields.begin_document("open");
        fields.clear();
        fields.int("a", 1);
        let read: Document = bson::deserialize_from_slice(&fields.to_document()).expect("valid BSON");
        assert_eq!(read, doc! { "a": 1 });
    }
}
