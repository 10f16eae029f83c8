//! Lists that come in pages.

use crate::wait::wait;
use turnwire_core::client::{self, PageError, Paged};

/// A list, page by page or, as an iterator, entry by entry. See [`turnwire_core::client::Pages`].
#[derive(Debug)]
#[must_use = "nothing is asked for before an entry or a page is"]
pub struct Pages<R: Paged> {
    inner: client::Pages<R>,
}

impl<R: Paged> Pages<R> {
    pub(crate) fn new(inner: client::Pages<R>) -> Self {
        Self { inner }
    }

    /// Sets more params of the request. For the pages that have not been asked for yet.
    pub fn with(self, set: impl FnOnce(R) -> R) -> Self {
        Self::new(self.inner.with(set))
    }

    /// The next page as it came; `None` after the last. Entries of it that were not yielded are yielded here only.
    ///
    /// # Errors
    /// When the page cannot be had, or when the server goes in a circle. Then there is no more.
    pub fn next_page(&mut self) -> Option<Result<R::Response, PageError>> {
        wait(self.inner.next_page())
    }

    /// All entries that are left.
    ///
    /// # Errors
    /// As for [`next_page`](Self::next_page); what was read until then is lost.
    pub fn all(self) -> Result<Vec<R::Entry>, PageError> {
        wait(self.inner.all())
    }
}

impl<R: Paged> Iterator for Pages<R> {
    type Item = Result<R::Entry, PageError>;

    /// The next entry; `None` after the last.
    fn next(&mut self) -> Option<Self::Item> {
        wait(self.inner.next())
    }
}
