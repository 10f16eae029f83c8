//! What goes into a turn.

use crate::{
    json::Json,
    protocol::{ImageUserInput, LocalImageUserInput, MentionUserInput, SkillUserInput, TurnToolOutput, UserInput},
    turn::{InputError, check_input},
};
use std::path::{Path, absolute};

/// The input of a turn: a text, one item, several, or none, which asks the model all the same.
///
/// Paths go to the server as text. A relative one is made absolute against the working directory of this program, because
/// the server may have another; one that is absolute on Windows (`C:\…`, `\\server\…`) stays as it is everywhere. A path that
/// is not UTF-8 is an error when the turn is started. Nothing is read here: a file that does not exist is told to the model.
///
/// ```
/// # use turnwire_core::client::Input;
/// let input = Input::new().text("What is in this picture?").local_image("/tmp/picture.png");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Input {
    pub(crate) items: Vec<UserInput>,
    pub(crate) tool_output: Option<TurnToolOutput>,
    fault: Option<InputError>,
}

impl Input {
    /// No item.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any item.
    pub fn item(mut self, item: impl Into<UserInput>) -> Self {
        self.items.push(item.into());
        self
    }

    /// Adds a text.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.item(UserInput::text(text))
    }

    /// Adds an image, as a `data:` URL. Servers refuse other URLs since 0.144; where the server is known to, so does this
    /// library ([`InputError::RemoteImage`]).
    pub fn image(self, url: impl Into<String>) -> Self {
        self.item(UserInput::Image(ImageUserInput::new().url(url)))
    }

    /// Adds an image in a file that the server can read.
    pub fn local_image(mut self, path: impl AsRef<Path>) -> Self {
        match wire_path(path.as_ref()) {
            Ok(path) => self.item(UserInput::LocalImage(LocalImageUserInput::new(path))),
            Err(fault) => {
                self.fault.get_or_insert(fault);
                self
            }
        }
    }

    /// Adds a skill by its name and the path of its file.
    pub fn skill(mut self, name: impl Into<String>, path: impl AsRef<Path>) -> Self {
        match wire_path(path.as_ref()) {
            Ok(path) => self.item(UserInput::Skill(SkillUserInput::new(name, path))),
            Err(fault) => {
                self.fault.get_or_insert(fault);
                self
            }
        }
    }

    /// Adds a mention of something by its name and path. The path need not be one of a file (`app://…`), so it stays as it
    /// is.
    pub fn mention(self, name: impl Into<String>, path: impl Into<String>) -> Self {
        self.item(UserInput::Mention(MentionUserInput::new(name, path)))
    }

    /// Checks what can be checked without knowing the server.
    pub(crate) fn check(&self) -> Result<(), InputError> {
        self.fault.clone().map_or(Ok(()), Err)?;
        check_input(&self.items, self.tool_output.as_ref())
    }

    /// The items, for a turn that runs.
    pub(crate) fn for_steering(self) -> Result<Vec<UserInput>, InputError> {
        self.check()?;
        if self.tool_output.is_some() {
            return Err(InputError::NotForSteering);
        }
        Ok(self.items)
    }
}

/// A path as the server is told it.
pub(crate) fn wire_path(path: &Path) -> Result<String, InputError> {
    let text = path.to_str().ok_or(InputError::PathNotUtf8)?;
    let bytes = text.as_bytes();
    let has_drive = matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    if has_drive || text.starts_with("\\\\") || path.is_absolute() {
        return Ok(text.into());
    }
    let absolute = absolute(path).map_err(|_| InputError::PathNotAbsolute)?;
    absolute.into_os_string().into_string().map_err(|_| InputError::PathNotUtf8)
}

/// What another agent, a tool or a program says, as the whole input of a turn (`toolOutput`; since 0.154).
///
/// The model takes it as the output of a tool, below what the user and the developer say: it authorises nothing. A server
/// that is too old for it is not asked.
#[derive(Clone, Debug)]
#[must_use]
pub struct ExternalMessage {
    output: TurnToolOutput,
}

impl ExternalMessage {
    /// A text from the tool of this name.
    pub fn new(tool: impl Into<String>, text: impl AsRef<str>) -> Self {
        Self::structured(tool, Json::string(text.as_ref()))
    }

    /// A list of content items, as the model's own API has them for the output of functions.
    pub fn structured(tool: impl Into<String>, content: impl Into<Json>) -> Self {
        Self { output: TurnToolOutput::new(tool, content) }
    }

    /// The namespace of the tool.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.output = self.output.namespace(namespace);
        self
    }
}

impl From<ExternalMessage> for Input {
    fn from(message: ExternalMessage) -> Self {
        Self { tool_output: Some(message.output), ..Self::default() }
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::new().text(text)
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::new().text(text)
    }
}

impl From<UserInput> for Input {
    fn from(item: UserInput) -> Self {
        Self::new().item(item)
    }
}

impl From<Vec<UserInput>> for Input {
    fn from(items: Vec<UserInput>) -> Self {
        Self { items, ..Self::default() }
    }
}

impl<const N: usize> From<[UserInput; N]> for Input {
    fn from(items: [UserInput; N]) -> Self {
        Vec::from(items).into()
    }
}
