//! A session's threads.

use super::{Codex, PageError, Pages, Thread, hub::Reply, pages::by_update, session::Session};
use crate::{
    connection::{Prepared, decode_response},
    error::{CallError, Fault, ThreadError, ThreadFault},
    id::ThreadId,
    protocol::{
        Model, ModelList, Request, ThreadArchive, ThreadDelete, ThreadFork, ThreadList, ThreadListResponse,
        ThreadLoadedList, ThreadRead, ThreadReadResponse, ThreadStatus, ThreadUnarchive,
    },
};
use std::sync::Arc;

impl Codex {
    /// All models that can be chosen (`model/list`), those included that are not offered by default if so asked.
    ///
    /// # Errors
    /// As for [`Pages::next_page`].
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn all_models(&self, include_hidden: bool) -> Result<Vec<Model>, PageError> {
        self.model_pages(ModelList::new().include_hidden(include_hidden)).all().await
    }

    /// The models that can be chosen (`model/list`), page by page.
    pub fn model_pages(&self, params: ModelList) -> Pages<ModelList> {
        Pages::new(self.clone(), params)
    }

    /// One page of the stored threads (`thread/list`). A thread is stored once a turn has run on it.
    ///
    /// Unless the params say otherwise, the threads come in the order of their last update, the latest first: with the
    /// server's own default, paging loses threads.
    ///
    /// # Errors
    /// [`PageError::InvalidCursor`] for a cursor that is none of the server's, else as for [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn thread_list(&self, mut params: ThreadList) -> Result<ThreadListResponse, PageError> {
        by_update(&mut params);
        Ok(self.request(params).await?)
    }

    /// The stored threads (`thread/list`), thread by thread or page by page. The order is that of
    /// [`thread_list`](Self::thread_list).
    pub fn thread_pages(&self, params: ThreadList) -> Pages<ThreadList> {
        Pages::new(self.clone(), params)
    }

    /// The threads that the server has in memory (`thread/loaded/list`).
    ///
    /// # Errors
    /// As for [`Pages::next_page`].
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn loaded_list(&self) -> Result<Vec<ThreadId>, PageError> {
        Pages::new(self.clone(), ThreadLoadedList::new()).all().await
    }

    /// Copies a thread into a new one (`thread/fork`), which keeps the ids of the copied turns and the settings, and to which
    /// this session listens. A turn that runs is copied as interrupted.
    ///
    /// The params name where to cut: `last_turn_id` keeps everything up to that turn. Unless they say otherwise the answer
    /// leaves the turns out; [`Thread::history`] has them.
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when no turn has run on the thread; others as named there.
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request): a fork that was already asked for comes into being.
    pub async fn thread_fork(&self, mut params: ThreadFork) -> Result<Thread, ThreadError> {
        params.exclude_turns.get_or_insert(true);
        let source = params.thread_id.clone();
        let session = self.session();
        let response = about(&session, &source, params).await?;
        Ok(Thread::new(session, response.thread.id))
    }

    /// Reads a thread, loaded or stored, without taking part in it (`thread/read`).
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when its turns are asked for and it has none; others as named there.
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn thread_read(
        &self,
        thread: impl Into<ThreadId>,
        include_turns: bool,
    ) -> Result<ThreadReadResponse, ThreadError> {
        let thread = thread.into();
        about(&self.session(), &thread, ThreadRead::new(thread.clone()).include_turns(include_turns)).await
    }

    /// Puts a thread away (`thread/archive`). A turn that runs on it is interrupted first. Newer servers archive a thread
    /// that has run no turn, older ones refuse it.
    ///
    /// # Errors
    /// [`ThreadError::Archived`] when it is archived already; others as named there.
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn thread_archive(&self, thread: impl Into<ThreadId>) -> Result<(), ThreadError> {
        let thread = thread.into();
        about(&self.session(), &thread, ThreadArchive::new(thread.clone())).await.map(drop)
    }

    /// Brings an archived thread back (`thread/unarchive`). It is stored then, and not loaded: resume it to run turns.
    ///
    /// # Errors
    /// [`ThreadError::NotFound`] when no thread of that id is archived; others as named there.
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn thread_unarchive(&self, thread: impl Into<ThreadId>) -> Result<Thread, ThreadError> {
        let thread = thread.into();
        let session = self.session();
        let response = about(&session, &thread, ThreadUnarchive::new(thread.clone())).await?;
        Ok(Thread::new(session, response.thread.id))
    }

    /// Deletes a thread (`thread/delete`). A turn that runs on it is interrupted first.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn thread_delete(&self, thread: impl Into<ThreadId>) -> Result<(), ThreadError> {
        let thread = thread.into();
        about(&self.session(), &thread, ThreadDelete::new(thread.clone())).await.map(drop)
    }
}

/// Makes a request about a thread.
pub(super) async fn about<R: Request>(
    session: &Arc<Session>,
    thread: &ThreadId,
    params: R,
) -> Result<R::Response, ThreadError> {
    match ask(session, params).await {
        Ok(response) => Ok(response),
        Err(error) => Err(sort(session, thread, error).await),
    }
}

/// Makes a request of this very server.
pub(super) async fn ask<R: Request>(session: &Arc<Session>, params: R) -> Result<R::Response, CallError> {
    let request = Prepared::new(&params)?;
    drop(params);
    let key = session.hub.command(|connection, now| connection.enter(now, request))?;
    decode_response::<R>(&Reply::new(session, key).await?)
}

/// Sorts what a request about a thread met. Where the server's words fit a thread that never ran as well as one that does
/// not exist, it is asked which.
pub(super) async fn sort(session: &Arc<Session>, thread: &ThreadId, error: CallError) -> ThreadError {
    if let Fault::SandboxLooser { asked, effective } = error.fault {
        return ThreadError::Sandbox { thread: thread.clone(), asked, effective: *effective };
    }
    if error.thread_fault() != Some(ThreadFault::NotStored) || error.method == ThreadUnarchive::METHOD {
        return ThreadError::new(thread.clone(), error, false);
    }
    match ask(session, ThreadRead::new(thread.clone())).await {
        Ok(read) if matches!(read.thread.status, ThreadStatus::NotLoaded) => {
            // It can be read and was not found where the others are.
            ThreadError::Archived { thread: thread.clone(), error }
        }
        read => ThreadError::new(thread.clone(), error, read.is_ok()),
    }
}
