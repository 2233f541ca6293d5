//! Converts a message to a document or a reject.

use std::time::Instant;

use bson::spec::{BinarySubtype, ElementType};
use bson::{Binary, Bson, DateTime, Document, RawBson, RawDocumentBuf, doc, oid::ObjectId};
use bytes::Bytes;
use mysimbdp_broker::consumer::{AckToken, Delivery};
use mysimbdp_model::app::Ids;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::RecordId;
use mysimbdp_model::source::{EPOCH, GONE, Lost, Number, SEQUENCE, SOURCE};
use mysimbdp_platform::clock;
use mysimbdp_store::rejected::RejectedBytes;
use mysimbdp_store::sequences;

use super::schema::MessageSchema;
use super::{Convert, StreamAppSettings};
use crate::Rejection;
use crate::failure::{Failure, shortened};
use crate::identity::{ID, Identity, Provenance, with_new_id, with_record_id};
use crate::record::{Element, Fields, RECORD_BYTES_MAX};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A message as an app's conversion receives it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The topic it was published to.
    pub topic: String,
    /// Its content: any bytes.
    pub payload: Bytes,
    /// Names and values that the producer has added, in order.
    pub user_properties: Vec<(String, String)>,
}

impl Message {
    /// Returns the payload without the byte order mark that some programs put in front of UTF-8.
    pub fn content(&self) -> &[u8] {
        self.payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.payload)
    }

    /// Returns the value of the first user property of this name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A message, its disposition, and the token to acknowledge it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    pub(crate) received_at: Instant,
    pub(crate) ack: AckToken,
    /// Its number in its source, whatever the disposition is.
    pub(crate) number: Option<Number>,
    pub(crate) disposition: Disposition,
}

impl Item {
    pub(crate) fn repeat_id(&self) -> Option<&RepeatId> {
        if let Disposition::Store { repeat_id, .. } = &self.disposition { repeat_id.as_ref() } else { None }
    }
}

#[derive(Debug)]
pub(crate) enum Disposition {
    /// `repeat_id` is the document's `_id`, if another message may have the same one.
    Store {
        document: RawDocumentBuf,
        repeat_id: Option<RepeatId>,
    },
    Reject {
        reason: Rejection,
    },
    /// Not a record: the source reports that it no longer has these numbers.
    Lost(Lost),
}

/// Identifies a message that may be a repeat: the `_id` under which the store already has its document if it is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RepeatId {
    Number(RecordId),
    /// With `ids: "none"`: the `_id` in the message itself.
    OwnId(Bson),
}

impl RepeatId {
    pub(crate) fn id(&self) -> Bson {
        match self {
            Self::Number(number) => Binary::from(*number).into(),
            Self::OwnId(id) => id.clone(),
        }
    }
}

/// Turns messages into documents.
pub(crate) struct Converter<'a> {
    settings: &'a StreamAppSettings,
    convert: &'a Convert,
    schema: Option<MessageSchema>,
    fields: Fields,
}

impl<'a> Converter<'a> {
    /// # Errors
    ///
    /// [`Failure::Config`] if the schema is invalid.
    pub(crate) fn new(settings: &'a StreamAppSettings, convert: &'a Convert) -> Result<Self, Failure> {
        let schema = settings.message_schema.as_ref().map(MessageSchema::compile).transpose()?;
        Ok(Self { settings, convert, schema, fields: Fields::new() })
    }

    pub(crate) fn item(&mut self, delivery: Delivery) -> Item {
        let Delivery { topic, payload, user_properties, received_at, ack, .. } = delivery;
        let message = Message { topic, payload, user_properties };
        let (number, disposition) = self.classify(&message);
        Item { message, received_at, ack, number, disposition }
    }

    fn classify(&mut self, message: &Message) -> (Option<Number>, Disposition) {
        if message.property(GONE).is_some() {
            return (
                None,
                read_lost(message).map_or_else(|reason| Disposition::Reject { reason }, Disposition::Lost),
            );
        }
        let converted = self.convert(message);
        let number = self.number(message);
        let document = converted.and_then(|()| self.document(&number));
        let disposition = match document {
            Ok((document, repeat_id)) => Disposition::Store { document, repeat_id },
            Err(reason) => Disposition::Reject { reason },
        };
        // An invalid number is a reject only with `ids: "platform"` (see `document`); otherwise it is ignored.
        (number.ok().flatten(), disposition)
    }

    fn convert(&mut self, message: &Message) -> Result<(), Rejection> {
        self.fields.clear();
        // It fits in no document, and parsing it as JSON would cost many times its size.
        let bytes = message.payload.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(format!("message has {bytes} bytes: the limit is {RECORD_BYTES_MAX}").into());
        }
        // Before the schema check: the number of a message that does not fit the schema may be in its fields.
        let converted = (self.convert)(message, &mut self.fields);
        if let Some(schema) = &self.schema {
            schema.check(message.content())?;
        }
        converted
    }

    fn document(
        &self,
        number: &Result<Option<Number>, Rejection>,
    ) -> Result<(RawDocumentBuf, Option<RepeatId>), Rejection> {
        match self.settings.ids {
            Ids::Key => {
                let provenance = Provenance::Stream { received_at: clock::now() };
                let identity = Identity::Key { fields: self.settings.record_key.clone(), provenance };
                Ok((identity.document(0, &self.fields)?, None))
            }
            Ids::Platform => match number.as_ref().map_err(Rejection::clone)? {
                Some(number) => {
                    let id = number.id(&self.settings.client);
                    Ok((with_record_id(id, &self.fields)?, Some(RepeatId::Number(id))))
                }
                None => Ok((with_new_id(&self.fields)?, None)),
            },
            Ids::Object | Ids::None => {
                let document = Identity::Own.document(0, &self.fields)?;
                let repeat_id = match self.fields.get(ID) {
                    Some(_) => Some(RepeatId::OwnId(id_of(&document)?)),
                    None => None,
                };
                Ok((document, repeat_id))
            }
        }
    }

    fn number(&self, message: &Message) -> Result<Option<Number>, Rejection> {
        let texts = match &self.settings.number_fields {
            None => [SOURCE, EPOCH, SEQUENCE].map(|name| message.property(name).map(str::to_owned)),
            Some(names) => names.each_ref().map(|name| self.fields.get(name).and_then(as_text)),
        };
        Number::read(texts).map_err(|error| error.to_string().into())
    }
}

fn id_of(document: &RawDocumentBuf) -> Result<Bson, Rejection> {
    let id = document.get(ID).map_err(|error| error.to_string())?;
    id.map_or(Ok(Bson::Null), |id| {
        Bson::try_from(RawBson::from(id)).map_err(|error| error.to_string().into())
    })
}

fn read_lost(message: &Message) -> Result<Lost, Rejection> {
    if !message.payload.is_empty() {
        return Err(format!(
            "message with the property {GONE} has {} bytes: expected no content",
            message.payload.len()
        )
        .into());
    }
    Lost::read([SOURCE, EPOCH, GONE].map(|name| message.property(name).map(str::to_owned)))
        .map_err(|error| error.to_string().into())
}

/// Returns the text of a field that holds a part of a message's number.
fn as_text(element: Element<'_>) -> Option<String> {
    match (element.kind, element.value) {
        (ElementType::Int32, value) => Some(i32::from_le_bytes(value.try_into().ok()?).to_string()),
        (ElementType::Int64, value) => Some(i64::from_le_bytes(value.try_into().ok()?).to_string()),
        // The text is between its length and the NUL that ends it.
        (ElementType::String, [_, _, _, _, text @ .., 0]) => String::from_utf8(text.to_vec()).ok(),
        _ => None,
    }
}

/// Returns the document that records a message that cannot be stored.
///
/// For a numbered message the `_id` is made of number and content: a repeat is recorded once, and other content with the
/// same number is recorded separately. For a message without a number the `_id` is new at each arrival: a message that the
/// broker delivers again after a crash can be recorded twice.
pub(crate) fn reject_document(
    client: &ClientId,
    Item { message, number, .. }: &Item,
    reason: &str,
    kept: RejectedBytes,
) -> Result<RawDocumentBuf, Failure> {
    let mut document = match number {
        Some(number) => numbered_reject(client, number, &message.payload),
        None => doc! { "_id": ObjectId::new() },
    };
    document.extend(doc! {
        "topic": &message.topic,
        "reason": shortened(reason.to_owned()),
        "rejected_at": DateTime::from_millis(clock::now().as_millisecond()),
    });
    kept.describe(&mut document, "payload", message.payload.len() as u64);
    RawDocumentBuf::try_from(&document)
        .map_err(|error| Failure::Internal(format!("reject is not a valid document: {error}")))
}

/// Returns the first fields of the reject of a numbered message.
fn numbered_reject(client: &ClientId, number: &Number, payload: &[u8]) -> Document {
    let mut id = number.id(client).0.to_vec();
    id.extend(&blake3::hash(payload).as_bytes()[..8]);
    doc! {
        "_id": Binary { subtype: BinarySubtype::Generic, bytes: id },
        "source": number.source.name.as_str(),
        "epoch": number.source.epoch.to_string(),
        "seq": sequences::number(number.sequence),
    }
}
