//! A record as a JSON object or as a row of CSV.

use std::collections::HashMap;

use bson::RawDocument;
use mysimbdp_config::ViewLayer;
use mysimbdp_model::app::Ids;
use mysimbdp_model::source::Source;

use super::{ALL, CURSOR, Layer, ORIGIN, RecordFields, RecordForm, origin, value};
use crate::error::QueryError;

/// A stored document, and where it is from.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) document: &'a RawDocument,
    pub(super) layer: Layer,
    pub(super) written_by: &'a ViewLayer,
    /// The names of the sources of numbered messages.
    pub(super) sources: &'a HashMap<[u8; 8], Source>,
}

impl Record<'_> {
    /// Appends what `fields` names.
    pub(super) fn append(
        &self,
        buffer: &mut Vec<u8>,
        fields: &RecordFields,
        form: RecordForm,
        cursor: Option<&str>,
    ) -> Result<(), QueryError> {
        match form {
            RecordForm::Object => self.append_object(buffer, fields, cursor),
            RecordForm::Row => self.append_row(buffer, fields, cursor),
        }
        .map_err(|error| QueryError::InvalidData(format!("a stored document is damaged: {error}")))
    }

    fn append_object(
        &self,
        buffer: &mut Vec<u8>,
        fields: &RecordFields,
        cursor: Option<&str>,
    ) -> bson::error::Result<()> {
        let names: &[String] = match fields {
            RecordFields::Stored => &[],
            RecordFields::Named(names) => names,
        };
        let mut members = value::Members::begin(buffer);
        if fields.columns().is_none() {
            for element in self.document.iter() {
                let (name, value) = element?;
                let name = name.as_str();
                let is_ours = matches!(name, ORIGIN | CURSOR) || (name == "_ingest" && self.has_provenance());
                if !is_ours {
                    members.append(name, value)?;
                }
            }
        }
        for name in names {
            match name.as_str() {
                ALL => {}
                ORIGIN => self.append_origin(members.begin_member(ORIGIN))?,
                CURSOR => value::append_text(members.begin_member(CURSOR), cursor.unwrap_or_default()),
                // With all fields it is there already.
                _ if fields.columns().is_none() => {}
                name => {
                    if let Some(value) = value::at(self.document, name)? {
                        members.append(name, value)?;
                    }
                }
            }
        }
        if *fields == RecordFields::Stored {
            self.append_origin(members.begin_member(ORIGIN))?;
        }
        members.end();
        Ok(())
    }

    fn append_row(
        &self,
        buffer: &mut Vec<u8>,
        fields: &RecordFields,
        cursor: Option<&str>,
    ) -> bson::error::Result<()> {
        let mut row = value::Row::begin(buffer);
        for name in fields.columns().unwrap_or_default() {
            match name.as_str() {
                ORIGIN => {
                    let mut origin = Vec::new();
                    self.append_origin(&mut origin)?;
                    row.append_text(&origin);
                }
                CURSOR => row.append_text(cursor.unwrap_or_default().as_bytes()),
                name => row.append(value::at(self.document, name)?)?,
            }
        }
        row.end();
        Ok(())
    }

    fn append_origin(&self, buffer: &mut Vec<u8>) -> bson::error::Result<()> {
        origin::append(buffer, self.document, self.layer, self.written_by, self.sources)
    }

    /// Whether `_ingest` is a field of the platform, and not one of the client.
    fn has_provenance(&self) -> bool {
        self.written_by.ids == Some(Ids::Key)
    }
}

/// Appends a row with the names of the columns.
pub fn append_header(buffer: &mut Vec<u8>, columns: &[String]) {
    let mut row = value::Row::begin(buffer);
    columns.iter().for_each(|column| row.append_text(column.as_bytes()));
    row.end();
}
