//! Selections, read page by page: a page is one short job, so that other callers need not wait for a large selection.
//!
//! A page begins after the last document of the page before, by value and id. It is read
//!
//! - in the order of the documents themselves, by `_id`;
//! - or through an [`index`];
//! - or, without one, by several jobs that read the whole collection and keep only the documents of the page.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf};
use futures::{StreamExt, stream};
use rusqlite::{Connection, params};

use super::database::Open;
use super::failure::Failure;
use super::index::{self, Budget, Index};
use super::worker::Worker;
use crate::select::path::{self, Projection};
use crate::select::{Selected, Selection, is_ordered, key_of};
use crate::{CoredmsError, Order, key};

const SELECT: &str = "select documents";

/// What a page holds if the whole collection has to be read for it.
const PAGE_DOCUMENTS: usize = 4_000;
const PAGE_BYTES: usize = 8 << 20;

/// How many jobs index what others have written, a thousand documents each, before the collection is read without the index:
/// they may write faster than that.
const BEHIND_MAX: usize = 2_000;

/// The keys of the first value that has a position in the order, -∞, and of the first type after those that have one.
const FIRST_KEY: [u8; 2] = [4, 1];
const END_KEY: [u8; 1] = [13];

pub(super) async fn select(
    worker: Arc<Worker>,
    address: String,
    collection: &str,
    selection: &Selection,
) -> Result<Selected, CoredmsError> {
    if let Some(reason) = selection.refusal() {
        return Err(Failure::Refused(reason).at(&address, SELECT));
    }
    let mut pages =
        Pages { worker, address, page: VecDeque::new(), reader: Some(Reader::new(collection, selection)) };
    // Whoever cannot read anything learns it here.
    pages.fill().await?;
    let documents = stream::try_unfold(pages, |mut pages| async move {
        pages.fill().await?;
        Ok(pages.page.pop_front().map(|document| (document, pages)))
    });
    Ok(documents.boxed())
}

/// The documents that have been read and not returned.
struct Pages {
    worker: Arc<Worker>,
    address: String,
    page: VecDeque<RawDocumentBuf>,
    /// `None` after the last page.
    reader: Option<Reader>,
}

impl Pages {
    /// Reads until there is a document to return, or none is left.
    async fn fill(&mut self) -> Result<(), CoredmsError> {
        while self.page.is_empty()
            && let Some(reader) = self.reader.take()
        {
            let read = self.worker.run(move |open| reader.read(open)).await;
            (self.page, self.reader) = read.map_err(|failure| failure.at(&self.address, SELECT))?;
        }
        Ok(())
    }
}

/// Where a document is in the order: the exact key of its value, and the key of its `_id`.
type PositionKey = (Vec<u8>, Vec<u8>);

/// Reads one page after the other.
struct Reader {
    collection: String,
    /// Paths, and the key that one of the values there must have.
    filter: Vec<(String, Vec<u8>)>,
    order_by: String,
    order: Order,
    /// The keys of the values that are selected.
    values: Range<Vec<u8>>,
    /// The same for the order by `_id`, whose keys differ.
    ids: Range<Vec<u8>>,
    after: Option<PositionKey>,
    projection: Option<Projection>,
    remaining: usize,
    scan: Option<Scan>,
    /// How often in succession the index was not up to date.
    behind: usize,
    /// The file that the first page was read from.
    file: Option<super::database::FileIdentity>,
}

/// A page for which the whole collection is read, by several jobs.
#[derive(Default)]
struct Scan {
    /// The last document that has been read.
    read: Vec<u8>,
    page: BTreeMap<PositionKey, RawDocumentBuf>,
    bytes: usize,
    /// The first position that is not on the page, if the page is full.
    end: Option<PositionKey>,
}

type Read = (VecDeque<RawDocumentBuf>, Option<Reader>);

impl Reader {
    fn new(collection: &str, selection: &Selection) -> Self {
        let projection = selection.projected().map(|paths| Projection::new(paths.into_iter().chain(["_id"])));
        let values = values(selection, key_of);
        let ids = values_of_ids(selection);
        let after = selection.after.as_ref().map(|after| (key_of(&after.value), key::encode(&after.id)));
        let filter = selection.filter.iter().map(|(path, value)| (path.clone(), key_of(value)));
        Self {
            collection: collection.to_owned(),
            filter: filter.collect(),
            order_by: selection.order_by.clone(),
            order: selection.order,
            values,
            ids,
            after,
            projection,
            remaining: selection
                .limit
                .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            scan: None,
            behind: 0,
            file: None,
        }
    }

    /// Reads a page, or a part of one; returns the reader of what follows, if anything can follow.
    fn read(mut self, open: &mut Open) -> Result<Read, Failure> {
        // An empty new file would look like the end of the collection.
        if *self.file.get_or_insert(open.identity()) != open.identity() {
            return Err(Failure::Replaced);
        }
        if self.remaining == 0 || self.values.is_empty() {
            return Ok((VecDeque::new(), None));
        }
        if self.order_by == "_id" {
            return self.read_by_id(open);
        }
        if let Some(scan) = self.scan.take() {
            return self.continue_scan(&open.connection, scan);
        }
        let in_filter = |field: &str| self.filter.iter().any(|(path, _)| path == field);
        match index::for_order(&open.connection, &self.collection, in_filter, &self.order_by)? {
            Some(index) if self.behind < BEHIND_MAX => self.read_by_index(open, &index),
            _ => self.continue_scan(&open.connection, Scan::default()),
        }
    }

    fn read_by_id(mut self, open: &Open) -> Result<Read, Failure> {
        let Range { mut start, mut end } = self.ids.clone();
        match (&self.after, self.order) {
            (Some((_, id)), Order::Ascending) => start = start.max([id, &[0][..]].concat()),
            (Some((_, id)), Order::Descending) => end = end.min(id.clone()),
            (None, _) => {}
        }
        let direction = direction(self.order);
        let mut select = open.connection.prepare_cached(&format!(
            "SELECT id, document FROM documents WHERE collection = ?1 AND id >= ?2 AND id < ?3
             ORDER BY id {direction}"
        ))?;
        let mut rows = select.query(params![self.collection, start, end])?;
        let (mut page, mut budget) = (VecDeque::new(), Budget::new());
        while !budget.is_spent() && self.remaining > 0 {
            let Some(row) = rows.next()? else { return Ok((page, None)) };
            let document = budget.read(row, 1)?;
            self.after = Some((Vec::new(), row.get(0)?));
            if document.get("_id").is_some_and(is_ordered) && self.matches(&document) {
                page.push_back(self.projected(document)?);
                self.remaining -= 1;
            }
        }
        Ok((page, Some(self)))
    }

    fn read_by_index(mut self, open: &mut Open, index: &Index) -> Result<Read, Failure> {
        let mut transaction = open.connection.transaction()?;
        if !index::is_complete(&transaction, &self.collection, index)? {
            drop(transaction);
            transaction = open.transaction()?;
            index::index_written(&transaction, &self.collection, 0)?;
            if !index::is_complete(&transaction, &self.collection, index)? {
                transaction.commit()?;
                self.behind += 1;
                return Ok((VecDeque::new(), Some(self)));
            }
        }
        self.behind = 0;
        let read = self.read_entries(&transaction, index)?;
        transaction.commit()?;
        Ok((read.0, read.1.then_some(self)))
    }

    /// Returns the documents of a page, and whether more may follow.
    fn read_entries(
        &mut self,
        connection: &Connection,
        index: &Index,
    ) -> Result<(VecDeque<RawDocumentBuf>, bool), Failure> {
        let fields = index.fields.split_last().map_or(&[][..], |(_, fields)| fields);
        let equal = fields.iter().filter_map(|field| self.filter.iter().find(|(path, _)| path == field));
        let prefix: Vec<u8> = equal.flat_map(|(_, key)| key.iter().copied()).collect();
        let full = |key: &[u8]| [&prefix, key].concat();
        let Range { start, end } = &self.values;
        // Every key of an id is greater than the empty one.
        let after = self.after.clone();
        let (after, limit, select) = match self.order {
            Order::Ascending => {
                let first = (start.clone(), Vec::new());
                (after.map_or(first.clone(), |after| after.max(first)), end, ENTRIES_ASCENDING)
            }
            Order::Descending => {
                let first = (end.clone(), Vec::new());
                (after.map_or(first.clone(), |after| after.min(first)), start, ENTRIES_DESCENDING)
            }
        };
        let mut select = connection.prepare_cached(select)?;
        let range = params![self.collection, index.number, full(&after.0), after.1, full(limit)];
        let mut rows = select.query(range)?;
        let (mut page, mut budget) = (VecDeque::new(), Budget::new());
        while !budget.is_spent() && self.remaining > 0 {
            let Some(row) = rows.next()? else { return Ok((page, false)) };
            let document = budget.read(row, 2)?;
            let (key, id): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let key = key[prefix.len()..].to_vec();
            // An array has an entry for each of its elements.
            if self.key_in_order(&document).is_some_and(|found| found == key) && self.matches(&document) {
                page.push_back(self.projected(document)?);
                self.remaining -= 1;
            }
            self.after = Some((key, id));
        }
        Ok((page, true))
    }

    fn continue_scan(mut self, connection: &Connection, mut scan: Scan) -> Result<Read, Failure> {
        let select = "SELECT id, document FROM documents WHERE collection = ?1 AND id > ?2 ORDER BY id";
        let mut select = connection.prepare_cached(select)?;
        let mut rows = select.query(params![self.collection, scan.read])?;
        let mut budget = Budget::new();
        while !budget.is_spent() {
            let Some(row) = rows.next()? else {
                return Ok(self.end_scan(scan));
            };
            let document = budget.read(row, 1)?;
            scan.read = row.get(0)?;
            let Some(key) = self.key_in_order(&document) else { continue };
            let position = (key, scan.read.clone());
            if self.values.contains(&position.0)
                && self.after.as_ref().is_none_or(|after| self.is_before(after, &position))
                && scan.end.as_ref().is_none_or(|end| self.is_before(&position, end))
                && self.matches(&document)
            {
                scan.add(position, self.projected(document)?, PAGE_DOCUMENTS.min(self.remaining), self.order);
            }
        }
        self.scan = Some(scan);
        Ok((VecDeque::new(), Some(self)))
    }

    fn end_scan(mut self, scan: Scan) -> Read {
        let last = match self.order {
            Order::Ascending => scan.page.last_key_value(),
            Order::Descending => scan.page.first_key_value(),
        };
        self.after = last.map(|(position, _)| position.clone());
        self.remaining -= scan.page.len();
        let page = scan.page.into_values();
        let page = match self.order {
            Order::Ascending => page.collect(),
            Order::Descending => page.rev().collect(),
        };
        (page, scan.end.map(|_| self))
    }

    fn is_before(&self, one: &PositionKey, other: &PositionKey) -> bool {
        match self.order {
            Order::Ascending => one < other,
            Order::Descending => one > other,
        }
    }

    /// Returns the key of the value by which the document is ordered, if it has a position in the order.
    fn key_in_order(&self, document: &Document) -> Option<Vec<u8>> {
        path::value(document, &self.order_by).filter(|value| is_ordered(value)).map(key_of)
    }

    fn matches(&self, document: &Document) -> bool {
        self.filter.iter().all(|(path, expected)| {
            let mut found = false;
            path::each_value(document, path, &mut |value| found = found || key_of(value) == *expected);
            found
        })
    }

    fn projected(&self, document: Document) -> Result<RawDocumentBuf, Failure> {
        let document = match &self.projection {
            Some(projection) => projection.apply(document),
            None => document,
        };
        RawDocumentBuf::try_from(&document).map_err(|error| Failure::Refused(error.to_string()))
    }
}

/// Entries after a position, in order, with their documents.
const ENTRIES_ASCENDING: &str = "
    SELECT entry.key, entry.id, document FROM index_entries AS entry
    CROSS JOIN documents ON documents.collection = ?1 AND documents.id = entry.id
    WHERE entry.number = ?2 AND (entry.key, entry.id) > (?3, ?4) AND entry.key < ?5
    ORDER BY entry.key, entry.id";
const ENTRIES_DESCENDING: &str = "
    SELECT entry.key, entry.id, document FROM index_entries AS entry
    CROSS JOIN documents ON documents.collection = ?1 AND documents.id = entry.id
    WHERE entry.number = ?2 AND (entry.key, entry.id) < (?3, ?4) AND entry.key >= ?5
    ORDER BY entry.key DESC, entry.id DESC";

fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    }
}

/// Returns the keys of the values within the bounds.
fn values(selection: &Selection, key_of: impl Fn(&Bson) -> Vec<u8>) -> Range<Vec<u8>> {
    let (mut start, mut end) = (FIRST_KEY.to_vec(), END_KEY.to_vec());
    for bound in [&selection.from, &selection.until].into_iter().flatten() {
        // All values of its type.
        let rank = key::rank(bound);
        start = start.max(vec![rank]);
        end = end.min(vec![rank + 1]);
    }
    if let Some(from) = &selection.from {
        start = start.max(key_of(from));
    }
    if let Some(until) = &selection.until {
        end = end.min(key_of(until));
    }
    start..end
}

/// The same for the keys of `_id`s.
fn values_of_ids(selection: &Selection) -> Range<Vec<u8>> {
    let Range { start, end } = values(selection, key::encode);
    // The second byte of a number means something else there.
    let start = if start == FIRST_KEY { FIRST_KEY[..1].to_vec() } else { start };
    start..end
}

impl Scan {
    /// Adds a document, and removes those from the end that do not fit on the page.
    fn add(&mut self, position: PositionKey, document: RawDocumentBuf, documents_max: usize, order: Order) {
        self.bytes += document.as_bytes().len();
        self.page.insert(position, document);
        while self.page.len() > documents_max || (self.bytes > PAGE_BYTES && self.page.len() > 1) {
            let last = match order {
                Order::Ascending => self.page.pop_last(),
                Order::Descending => self.page.pop_first(),
            };
            let Some((position, document)) = last else { return };
            self.bytes -= document.as_bytes().len();
            self.end = Some(position);
        }
    }
}
