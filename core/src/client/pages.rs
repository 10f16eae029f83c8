//! Lists that come in pages.

use super::Codex;
use crate::{
    error::{CallError, ThreadFault},
    id::ThreadId,
    json::Json,
    protocol::{
        Model, ModelList, Request, Thread, ThreadItemEntry, ThreadItemsList, ThreadList, ThreadLoadedList,
        ThreadSortKey, ThreadTurnsList, Turn,
    },
};
use std::{
    collections::{HashSet, VecDeque, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
};

/// How many pages in a row may be empty and still name a next one.
const MAX_EMPTY_PAGES: u32 = 1000;

/// A request whose answer is one page of a list. Implemented for the lists of this protocol.
pub trait Paged: Request + Clone {
    /// What the list is of.
    type Entry;

    /// Asks for the page that a cursor names.
    fn turn_to(&mut self, cursor: &str);

    /// What is set where the caller has not, before the first page.
    fn prepare(&mut self) {}

    /// The cursor of the next page, and the entries of this one that decode.
    fn open(response: Self::Response) -> (Option<String>, Vec<Self::Entry>);

    /// The cursor of the next page.
    fn next_cursor(response: &Self::Response) -> Option<&str>;
}

macro_rules! paged {
    ($($request:ident of $entry:ident),*) => {$(
        impl Paged for $request {
            type Entry = $entry;

            fn turn_to(&mut self, cursor: &str) {
                self.cursor = Some(cursor.into());
            }

            fn prepare(&mut self) {
                prepare(self);
            }

            fn open(response: Self::Response) -> (Option<String>, Vec<$entry>) {
                (response.next_cursor, response.data.into_iter().map(Into::into).collect())
            }

            fn next_cursor(response: &Self::Response) -> Option<&str> {
                response.next_cursor.as_deref()
            }
        }
    )*};
}
paged!(ModelList of Model, ThreadList of Thread, ThreadLoadedList of ThreadId, ThreadTurnsList of Turn);

impl Paged for ThreadItemsList {
    type Entry = ThreadItemEntry;

    fn turn_to(&mut self, cursor: &str) {
        self.cursor = Some(Json::string(cursor));
    }

    fn open(response: Self::Response) -> (Option<String>, Vec<ThreadItemEntry>) {
        (response.next_cursor, response.data.into_vec())
    }

    fn next_cursor(response: &Self::Response) -> Option<&str> {
        response.next_cursor.as_deref()
    }
}

/// What a list needs so that paging loses nothing.
fn prepare<R: 'static>(request: &mut R) {
    if let Some(list) = (request as &mut dyn std::any::Any).downcast_mut::<ThreadList>() {
        by_update(list);
    }
}

/// The default order has cursors of whole seconds, and threads of one second are lost between pages.
pub(super) fn by_update(list: &mut ThreadList) {
    list.sort_key.get_or_insert(ThreadSortKey::UpdatedAt);
}

/// A list could not be read on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PageError {
    /// The request for a page did not work.
    Call(CallError),
    /// The server named a page that it had named before, or one empty page after the other, so there would be no end.
    CursorLoop {
        /// How many pages there were by then.
        pages: u64,
    },
    /// The server does not know the cursor that was given.
    InvalidCursor(CallError),
}

impl PageError {
    /// The fault of the request, if there was one.
    #[must_use]
    pub fn call(&self) -> Option<&CallError> {
        match self {
            Self::Call(error) | Self::InvalidCursor(error) => Some(error),
            Self::CursorLoop { .. } => None,
        }
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => write!(f, "{error}"),
            Self::CursorLoop { pages } => {
                write!(f, "the list has no end: after {pages} pages the server goes in a circle")
            }
            Self::InvalidCursor(error) => write!(f, "the list has no such page: {error}"),
        }
    }
}

impl std::error::Error for PageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.call().map(|error| error as _)
    }
}

impl From<CallError> for PageError {
    fn from(error: CallError) -> Self {
        match error.thread_fault() {
            Some(ThreadFault::InvalidCursor) => Self::InvalidCursor(error),
            _ => Self::Call(error),
        }
    }
}

/// A list, page by page or entry by entry, in the server's order.
///
/// A page is asked for when it is wanted and not before, so whoever stops reading stops asking. After an error there is
/// no more. Entries that do not decode are passed over; [`next_page`](Self::next_page) has them.
#[must_use = "nothing is asked for before an entry or a page is"]
pub struct Pages<R: Paged> {
    codex: Codex,
    request: R,
    entries: VecDeque<R::Entry>,
    /// One number of 64 bits for each page that the server has named.
    named: HashSet<u64>,
    hasher: RandomState,
    pages: u64,
    empty: u32,
    is_over: bool,
}

impl<R: Paged> fmt::Debug for Pages<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("method", &R::METHOD)
            .field("pages", &self.pages)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl<R: Paged> Pages<R> {
    pub(super) fn new(codex: Codex, mut request: R) -> Self {
        request.prepare();
        Self {
            codex,
            request,
            entries: VecDeque::new(),
            named: HashSet::new(),
            hasher: RandomState::new(),
            pages: 0,
            empty: 0,
            is_over: false,
        }
    }

    /// Sets more params of the request. For the pages that have not been asked for yet.
    pub fn with(mut self, set: impl FnOnce(R) -> R) -> Self {
        self.request = set(self.request);
        self
    }

    /// The next page as it came; `None` after the last. Entries of it that [`next`](Self::next) has not yielded are
    /// yielded here only.
    ///
    /// # Errors
    /// When the page cannot be had, or when the server goes in a circle. Then there is no more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the page is asked for again.
    pub async fn next_page(&mut self) -> Option<Result<R::Response, PageError>> {
        self.entries.clear();
        if self.is_over {
            return None;
        }
        match self.codex.request(self.request.clone()).await {
            Ok(response) => {
                self.pages += 1;
                match R::next_cursor(&response).map(|cursor| (self.hasher.hash_one(cursor), cursor)) {
                    None => self.is_over = true,
                    Some((hash, _)) if !self.named.insert(hash) => {
                        // What this page holds was seen before, or belongs to a list that goes in a circle.
                        return Some(Err(self.circle()));
                    }
                    Some((_, cursor)) => self.request.turn_to(cursor),
                }
                Some(Ok(response))
            }
            Err(error) => {
                self.is_over = true;
                Some(Err(error.into()))
            }
        }
    }

    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// As for [`next_page`](Self::next_page).
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<R::Entry, PageError>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Some(Ok(entry));
            }
            let (_, entries) = match self.next_page().await? {
                Ok(page) => R::open(page),
                Err(error) => return Some(Err(error)),
            };
            self.empty = if entries.is_empty() { self.empty + 1 } else { 0 };
            if self.empty > MAX_EMPTY_PAGES && !self.is_over {
                return Some(Err(self.circle()));
            }
            self.entries = entries.into();
        }
    }

    /// All entries that are left.
    ///
    /// # Errors
    /// As for [`next_page`](Self::next_page); what was read until then is lost.
    ///
    /// # Cancel safety
    /// Dropping the future loses what was read.
    pub async fn all(mut self) -> Result<Vec<R::Entry>, PageError> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await {
            all.push(entry?);
        }
        Ok(all)
    }

    fn circle(&mut self) -> PageError {
        self.is_over = true;
        PageError::CursorLoop { pages: self.pages }
    }
}
