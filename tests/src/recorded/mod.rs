//! A recorded server: it says what it said before, when the program under test says what was said to it.
//!
//! A [`RecordedServer`] is a machine like the [scripted server](crate::scripted), without a script: a
//! [`Recording`](turnwire_core::record::Recording) is all that it knows. Each line of the server is written once everything that
//! the client had sent before it has come. What the program sends is matched with what was recorded by method and order, or for
//! an answer by the id of the server's request; ids of requests may differ, and are mapped. Requests that nobody recorded are
//! refused, so that nobody waits for ever, and every difference is a
//! [`Divergence`](turnwire_core::record::Divergence) with the number of its record.
//!
//! Over in-memory pipes, for a client of any runtime:
//!
//! ```
//! use std::time::Duration;
//! use turnwire_core::record::Recording;
//! use turnwire_testkit::recorded::recorded_duplex;
//!
//! // As turnwire's recorder wrote it, or as a bug report brought it.
//! let recording = Recording::parse(concat!(
//!     r#"{"n":1,"t_ns":0,"dir":"in","line":"{\"id\":1,\"method\":\"initialize\",\"params\":{}}"}"#, "\n",
//!     r#"{"n":2,"t_ns":9,"dir":"out","line":"{\"id\":1,\"result\":{\"userAgent\":\"me/0.163.0\"}}"}"#, "\n",
//!     r#"{"n":3,"t_ns":9,"dir":"in","line":"{\"method\":\"initialized\"}"}"#, "\n",
//!     r#"{"n":4,"t_ns":9,"dir":"in","line":"{\"id\":2,\"method\":\"model/list\",\"params\":{}}"}"#, "\n",
//!     r#"{"n":5,"t_ns":9,"dir":"out","line":"{\"id\":2,\"result\":{\"data\":[],\"nextCursor\":null}}"}"#, "\n",
//! )).unwrap();
//!
//! let (reader, writer, server) = recorded_duplex(recording);
//! let codex = turnwire_blocking::connect(reader, writer).unwrap();
//! assert!(codex.models().unwrap().data.is_empty());
//! codex.close();
//! assert!(server.wait(Duration::from_secs(10)));
//!
//! // This recording was made by hand, by somebody who knew nothing of the client: that shows.
//! let divergences = server.divergences();
//! assert_eq!(divergences.len(), 1);
//! assert_eq!((divergences[0].number, divergences[0].path.as_str()), (1, "/params/capabilities"));
//! ```
//!
//! Over a child process: the program `turnwire-recorded-server` plays the recording that `--recording` or
//! `TURNWIRE_RECORDING` names, in place of `codex`.

mod fit;
mod serve;
mod server;
mod tape;

pub(crate) use fit::misfits_of;
pub use fit::{Misfit, misfits};
pub use serve::{Replaying, recorded_duplex, serve_recorded, serve_recorded_stdio};
pub use server::{RecordedServer, State};
pub use tape::Tape;
