//! Paths such as `a.b`: which values of a document they lead to, as MongoDB defines it.

use std::collections::BTreeMap;

use bson::{Bson, Document};

/// Returns whether MongoDB takes this for the path of a field, and not for an operator.
pub(crate) fn is_valid(path: &str) -> bool {
    path.split('.').all(|name| !name.is_empty() && !name.starts_with('$') && !name.contains('\0'))
}

/// Returns whether `path` is `other` or leads further.
pub(crate) fn includes(other: &str, path: &str) -> bool {
    path.strip_prefix(other).is_some_and(|remainder| remainder.is_empty() || remainder.starts_with('.'))
}

/// Returns the path and those that lead to it: `a` and `a.b` for `a.b`.
pub(crate) fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(dot, _)| &path[..dot]).chain([path])
}

/// Returns the value at a path that leads only through documents.
#[cfg(feature = "embedded")]
pub(crate) fn value<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    match path.split_once('.') {
        None => document.get(path),
        Some((name, remainder)) => value(document.get_document(name).ok()?, remainder),
    }
}

/// Calls `found` with each value that a filter by this path compares with: through each document of an array, the elements
/// of an array after the array itself, and null for a missing field.
#[cfg(feature = "embedded")]
pub(crate) fn each_value(document: &Document, path: &str, found: &mut dyn FnMut(&Bson)) {
    let (name, remainder) = match path.split_once('.') {
        None => (path, None),
        Some((name, remainder)) => (name, Some(remainder)),
    };
    match document.get(name) {
        None => found(&Bson::Null),
        Some(value) => each_value_in(value, remainder, found),
    }
}

#[cfg(feature = "embedded")]
fn each_value_in(value: &Bson, path: Option<&str>, found: &mut dyn FnMut(&Bson)) {
    match (value, path) {
        (value, None) => {
            found(value);
            value.as_array().into_iter().flatten().for_each(found);
        }
        (Bson::Document(document), Some(path)) => each_value(document, path, found),
        (Bson::Array(values), Some(path)) => {
            for document in values.iter().filter_map(Bson::as_document) {
                each_value(document, path, found);
            }
            // A number is a position too; an array there does not stand for its elements.
            let (name, remainder) =
                path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
            let position = name.parse::<usize>().ok().filter(|position| position.to_string() == name);
            match (position.and_then(|position| values.get(position)), remainder) {
                (Some(value), None) => found(value),
                (Some(value @ (Bson::Document(_) | Bson::Array(_))), path) => {
                    each_value_in(value, path, found)
                }
                _ => {}
            }
        }
        _ => found(&Bson::Null),
    }
}

/// The part of a document that is returned.
#[cfg(feature = "embedded")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Projection(BTreeMap<String, Projection>);

#[cfg(feature = "embedded")]
impl Projection {
    /// `paths` include one another nowhere.
    pub(crate) fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut projection = Self::default();
        for path in paths {
            let mut inner = &mut projection;
            for name in path.split('.') {
                inner = inner.0.entry(name.to_owned()).or_default();
            }
        }
        projection
    }

    pub(crate) fn apply(&self, document: Document) -> Document {
        let projected = document.into_iter().filter_map(|(name, value)| {
            let value = self.0.get(&name)?.apply_to(value)?;
            Some((name, value))
        });
        projected.collect()
    }

    fn apply_to(&self, value: Bson) -> Option<Bson> {
        match value {
            whole if self.0.is_empty() => Some(whole),
            Bson::Document(document) => Some(self.apply(document).into()),
            Bson::Array(values) => {
                Some(Bson::Array(values.into_iter().filter_map(|value| self.apply_to(value)).collect()))
            }
            _ => None,
        }
    }
}
