//! Writes the elements of a BSON document.

use std::io::Write;

use bson::spec::ElementType;

/// The elements of a document, without its length and end; [`Identity`](crate::identity::Identity) completes the document.
///
/// The caller is responsible for the names: each may occur once per document and must pass
/// [`check_name`](super::check_name). Reuse one value for many records with [`Fields::clear`], which keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    elements: Vec<u8>,
    /// Type and offset of each top-level element.
    top_level: Vec<(ElementType, usize)>,
    /// Offsets of the lengths of the documents and arrays that are still open.
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
    /// In a document. Must not contain NUL.
    Key(&'a str),
    /// In an array: the element's index.
    Index(usize),
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl Fields {
    /// Returns a value without elements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all elements, for the next record.
    pub fn clear(&mut self) {
        self.elements.clear();
        self.top_level.clear();
        self.open.clear();
    }

    /// Returns the number of bytes written so far.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Adds a null.
    pub fn null<'a>(&mut self, name: impl Into<Name<'a>>) {
        self.element(ElementType::Null, name.into());
    }

    /// Adds a boolean.
    pub fn bool<'a>(&mut self, name: impl Into<Name<'a>>, value: bool) {
        self.element(ElementType::Boolean, name.into());
        self.elements.push(u8::from(value));
    }

    /// Adds an integer, in 32 bits if it fits.
    pub fn int<'a>(&mut self, name: impl Into<Name<'a>>, value: i64) {
        match i32::try_from(value) {
            Ok(value) => self.int32(name, value),
            Err(_) => self.int64(name, value),
        }
    }

    /// Adds an integer of 32 bits.
    pub fn int32<'a>(&mut self, name: impl Into<Name<'a>>, value: i32) {
        self.element(ElementType::Int32, name.into());
        self.elements.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds an integer of 64 bits, even if it fits in 32.
    pub fn int64<'a>(&mut self, name: impl Into<Name<'a>>, value: i64) {
        self.element(ElementType::Int64, name.into());
        self.elements.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a floating-point number of 64 bits.
    pub fn double<'a>(&mut self, name: impl Into<Name<'a>>, value: f64) {
        self.element(ElementType::Double, name.into());
        self.elements.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a string.
    pub fn string<'a>(&mut self, name: impl Into<Name<'a>>, value: &str) {
        self.element(ElementType::String, name.into());
        self.elements.extend_from_slice(&length(value.len() + 1));
        self.elements.extend_from_slice(value.as_bytes());
        self.elements.push(0);
    }

    /// Adds a point in time, in milliseconds since 1970 (UTC).
    pub fn date<'a>(&mut self, name: impl Into<Name<'a>>, millis: i64) {
        self.element(ElementType::DateTime, name.into());
        self.elements.extend_from_slice(&millis.to_le_bytes());
    }

    /// Adds binary data of the generic subtype.
    pub fn binary<'a>(&mut self, name: impl Into<Name<'a>>, value: &[u8]) {
        self.element(ElementType::Binary, name.into());
        self.elements.extend_from_slice(&length(value.len()));
        self.elements.push(0);
        self.elements.extend_from_slice(value);
    }

    /// Adds an ObjectId.
    pub fn object_id<'a>(&mut self, name: impl Into<Name<'a>>, value: bson::oid::ObjectId) {
        self.element(ElementType::ObjectId, name.into());
        self.elements.extend_from_slice(&value.bytes());
    }

    /// Opens a document; the elements that follow belong to it, until [`Fields::end`].
    pub fn begin_document<'a>(&mut self, name: impl Into<Name<'a>>) {
        self.begin(ElementType::EmbeddedDocument, name.into());
    }

    /// Opens an array; the elements that follow, with the names 0, 1, …, belong to it, until [`Fields::end`].
    pub fn begin_array<'a>(&mut self, name: impl Into<Name<'a>>) {
        self.begin(ElementType::Array, name.into());
    }

    /// Closes the document or array that was opened last. Does nothing if none is open.
    pub fn end(&mut self) {
        let Some(start) = self.open.pop() else { return };
        self.elements.push(0);
        let bytes = length(self.elements.len() - start);
        self.elements[start..start + 4].copy_from_slice(&bytes);
    }

    /// Returns the top-level elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        let ends = self.top_level.iter().skip(1).map(|&(_, start)| start).chain([self.elements.len()]);
        self.top_level.iter().zip(ends).filter_map(|(&(kind, start), end)| {
            let element = &self.elements[start + 1..end];
            let name = element.iter().position(|&byte| byte == 0)?;
            Some(Element {
                kind,
                name: std::str::from_utf8(&element[..name]).ok()?,
                value: &element[name + 1..],
            })
        })
    }

    /// Returns the top-level element of this name.
    pub fn get(&self, name: &str) -> Option<Element<'_>> {
        self.iter().find(|element| element.name == name)
    }

    /// Adds a copy of an element of other fields, with the name `name`.
    pub fn copy(&mut self, name: &str, element: Element<'_>) {
        self.element(element.kind, Name::Key(name));
        self.elements.extend_from_slice(element.value);
    }

    /// Adds all elements of other fields.
    pub fn append(&mut self, other: &Self) {
        let offset = self.elements.len();
        if self.open.is_empty() {
            self.top_level.extend(other.top_level.iter().map(|&(kind, start)| (kind, offset + start)));
        }
        self.elements.extend_from_slice(&other.elements);
    }

    /// Returns the elements as a complete document.
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
            self.top_level.push((kind, self.elements.len()));
        }
        self.elements.push(kind as u8);
        match name {
            Name::Key(key) => self.elements.extend_from_slice(key.as_bytes()),
            Name::Index(index) => write!(self.elements, "{index}").expect("writing to memory does not fail"),
        }
        self.elements.push(0);
    }
}

/// Encodes a length for BSON. Values are capped far below 2 GiB before they get here; the store would refuse a larger one for
/// its size in any case.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    #[test]
    fn the_bson_crate_reads_what_is_written() {
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
    fn cleared_fields_hold_nothing_of_the_previous_record() {
        let mut fields = Fields::new();
        fields.begin_document("open");
        fields.clear();
        fields.int("a", 1);
        let read: Document = bson::deserialize_from_slice(&fields.to_document()).expect("valid BSON");
        assert_eq!(read, doc! { "a": 1 });
    }
}
