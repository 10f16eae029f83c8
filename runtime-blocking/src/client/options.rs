//! What is known of a thread's settings.

use super::Thread;
use turnwire_core::connection::KnownSettings;

impl Thread {
    /// What the server has told this session of the thread's settings; `None` if nothing, because the session has neither
    /// started nor resumed it. Nothing is sent.
    #[must_use]
    pub fn known_settings(&self) -> Option<KnownSettings> {
        self.inner.known_settings()
    }
}
