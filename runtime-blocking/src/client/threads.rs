//! A session's threads.

use super::{Codex, Pages, Resumed, Thread};
use crate::wait::wait;
use turnwire_core::{
    client::{PageError, Resume},
    error::ThreadError,
    id::ThreadId,
    protocol::{Model, ModelList, ThreadFork, ThreadList, ThreadListResponse, ThreadReadResponse},
};

impl Codex {
    /// All models that can be chosen (`model/list`), those included that are not offered by default if so asked.
    ///
    /// # Errors
    /// As for [`Pages::next_page`].
    pub fn all_models(&self, include_hidden: bool) -> Result<Vec<Model>, PageError> {
        wait(self.inner.all_models(include_hidden))
    }

    /// The models that can be chosen (`model/list`), page by page.
    pub fn model_pages(&self, params: ModelList) -> Pages<ModelList> {
        Pages::new(self.inner.model_pages(params))
    }

    /// One page of the stored threads (`thread/list`). A thread is stored once a turn has run on it.
    ///
    /// Unless the params say otherwise, the threads come in the order of their last update, the latest first: with the
    /// server's own default, paging loses threads.
    ///
    /// # Errors
    /// [`PageError::InvalidCursor`] for a cursor that is none of the server's, else as for [`request`](Self::request).
    pub fn thread_list(&self, params: ThreadList) -> Result<ThreadListResponse, PageError> {
        wait(self.inner.thread_list(params))
    }

    /// The stored threads (`thread/list`), thread by thread or page by page. The order is that of
    /// [`thread_list`](Self::thread_list).
    pub fn thread_pages(&self, params: ThreadList) -> Pages<ThreadList> {
        Pages::new(self.inner.thread_pages(params))
    }

    /// The threads that the server has in memory (`thread/loaded/list`).
    ///
    /// # Errors
    /// As for [`Pages::next_page`].
    pub fn loaded_list(&self) -> Result<Vec<ThreadId>, PageError> {
        wait(self.inner.loaded_list())
    }

    /// Copies a thread into a new one (`thread/fork`), which keeps the ids of the copied turns and the settings, and to which
    /// this session listens. A turn that runs is copied as interrupted.
    ///
    /// The params name where to cut: `last_turn_id` keeps everything up to that turn. Unless they say otherwise the answer
    /// leaves the turns out; [`Thread::history`] has them.
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when no turn has run on the thread; others as named there.
    pub fn thread_fork(&self, params: ThreadFork) -> Result<Thread, ThreadError> {
        wait(self.inner.thread_fork(params)).map(Thread::new)
    }

    /// Reads a thread, loaded or stored, without taking part in it (`thread/read`).
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when its turns are asked for and it has none; others as named there.
    pub fn thread_read(
        &self,
        thread: impl Into<ThreadId>,
        include_turns: bool,
    ) -> Result<ThreadReadResponse, ThreadError> {
        wait(self.inner.thread_read(thread, include_turns))
    }

    /// Puts a thread away (`thread/archive`). A turn that runs on it is interrupted first. Newer servers archive a thread
    /// that has run no turn, older ones refuse it.
    ///
    /// # Errors
    /// [`ThreadError::Archived`] when it is archived already; others as named there.
    pub fn thread_archive(&self, thread: impl Into<ThreadId>) -> Result<(), ThreadError> {
        wait(self.inner.thread_archive(thread))
    }

    /// Brings an archived thread back (`thread/unarchive`). It is stored then, and not loaded: resume it to run turns.
    ///
    /// # Errors
    /// [`ThreadError::NotFound`] when no thread of that id is archived; others as named there.
    pub fn thread_unarchive(&self, thread: impl Into<ThreadId>) -> Result<Thread, ThreadError> {
        wait(self.inner.thread_unarchive(thread)).map(Thread::new)
    }

    /// Deletes a thread (`thread/delete`). A turn that runs on it is interrupted first.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn thread_delete(&self, thread: impl Into<ThreadId>) -> Result<(), ThreadError> {
        wait(self.inner.thread_delete(thread))
    }

    /// Takes a stored thread up again, or takes part in a loaded one (`thread/resume`). If a turn runs on it,
    /// [`Resumed::running`] is that turn.
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when the thread is there and has run no turn; [`ThreadError::NotFound`] when there
    /// is none; [`ThreadError::ActiveWriter`] when another process holds it; [`ThreadError::Archived`] until it is
    /// unarchived; [`ThreadError::Sandbox`] when it runs under a sandbox that is looser than the one asked for, or cannot
    /// be compared with it; and others. No thread is ever started or forked instead unless [`Resume`] says so.
    pub fn thread_resume(&self, resume: impl Into<Resume>) -> Result<Resumed, ThreadError> {
        wait(self.inner.thread_resume(resume)).map(Resumed::new)
    }
}
