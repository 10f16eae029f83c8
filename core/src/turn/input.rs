//! What is wrong with an input.

use crate::error::CallError;
#[cfg(feature = "client")]
use crate::protocol::{TurnToolOutput, UserInput};
use core::fmt;
use serde::Deserialize;

/// How many characters all texts of an input may have together, as of the servers from 0.133 to 0.163.
pub const MAX_INPUT_CHARS: u64 = 1_048_576;

/// Servers refuse images by reference since this version.
#[cfg(feature = "client")]
pub(crate) const NO_REMOTE_IMAGES_SINCE: &str = "0.144.4";

/// An input that cannot be taken. Nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputError {
    /// An external message names no tool that it comes from.
    NoToolName,
    /// An external message was to be put into a turn that runs: it can only start one, or join one by a start.
    NotForSteering,
    /// A path is not UTF-8, and JSON holds nothing else.
    PathNotUtf8,
    /// A relative path could not be made absolute, because this program's working directory is not known.
    PathNotAbsolute,
    /// The server takes images as data (`data:` URLs) and from files, not by reference.
    RemoteImage,
    /// The texts are too long together.
    TooLarge {
        /// How many characters there may be.
        maximum: u64,
        /// How many there are.
        actual: u64,
    },
}

impl InputError {
    /// The fault of the input that the server refused, if that is why it refused.
    #[must_use]
    pub fn of(error: &CallError) -> Option<Self> {
        #[derive(Deserialize)]
        struct Data<'a> {
            input_error_code: &'a str,
            max_chars: u64,
            actual_chars: u64,
        }
        let rpc = error.rpc()?;
        if rpc.message.contains("remote image URLs are not supported") {
            return Some(Self::RemoteImage);
        }
        let data: Data<'_> = serde_json::from_str(rpc.data.as_ref()?.as_str()).ok()?;
        (data.input_error_code == "input_too_large")
            .then_some(Self::TooLarge { maximum: data.max_chars, actual: data.actual_chars })
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToolName => f.write_str("an external message must name the tool that it comes from"),
            Self::NotForSteering => f.write_str("an external message can start a turn and not steer one"),
            Self::PathNotUtf8 => f.write_str("a path of the input is not UTF-8"),
            Self::PathNotAbsolute => f.write_str("a relative path of the input cannot be made absolute"),
            Self::RemoteImage => {
                f.write_str("the server takes images as data URLs or from files, and not by reference")
            }
            Self::TooLarge { maximum, actual } => {
                write!(f, "the input has {actual} characters, and the server takes {maximum}")
            }
        }
    }
}

impl core::error::Error for InputError {}

/// Checks what can be checked without knowing the server.
#[cfg(feature = "client")]
pub(crate) fn check_input(input: &[UserInput], tool_output: Option<&TurnToolOutput>) -> Result<(), InputError> {
    if tool_output.is_some_and(|output| output.name.trim().is_empty()) {
        return Err(InputError::NoToolName);
    }
    let texts = || {
        input.iter().filter_map(|item| match item {
            UserInput::Text(text) => Some(text.text.as_str()),
            _ => None,
        })
    };
    // There are never more characters than bytes.
    let bytes: usize = texts().map(str::len).sum();
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= MAX_INPUT_CHARS) {
        return Ok(());
    }
    let actual = texts().map(|text| text.chars().count()).sum::<usize>() as u64;
    if actual > MAX_INPUT_CHARS {
        return Err(InputError::TooLarge { maximum: MAX_INPUT_CHARS, actual });
    }
    Ok(())
}

/// Whether an image is given by a reference that the server would have to follow.
#[cfg(feature = "client")]
pub(crate) fn has_remote_image(input: &[UserInput]) -> bool {
    let is_remote = |url: &str| {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
    };
    input.iter().any(|item| matches!(item, UserInput::Image(image) if image.url.as_deref().is_some_and(is_remote)))
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;
    use crate::protocol::ImageUserInput;

    #[test]
    fn in_04_an_input_may_have_as_many_characters_as_servers_take_however_many_bytes_those_are() {
        let half = "ü".repeat(MAX_INPUT_CHARS as usize / 2);
        let mut input = [UserInput::text(half.clone()), UserInput::text(half)];
        assert_eq!(check_input(&input, None), Ok(()));
        if let UserInput::Text(text) = &mut input[1] {
            text.text.push('.');
        }
        let too_large = InputError::TooLarge { maximum: MAX_INPUT_CHARS, actual: MAX_INPUT_CHARS + 1 };
        assert_eq!(check_input(&input, None), Err(too_large));
    }

    #[test]
    fn what_a_tool_says_has_the_tools_name() {
        let output = |name: &str| TurnToolOutput::new(name, "text");
        assert_eq!(check_input(&[], Some(&output("tool"))), Ok(()));
        assert_eq!(check_input(&[], Some(&output(" "))), Err(InputError::NoToolName));
    }

    #[test]
    fn in_02_an_image_is_remote_if_it_is_at_an_address_of_the_web() {
        let text = || UserInput::text("http://example.org");
        for (url, is_remote) in [
            ("http://example.org/a.png", true),
            ("HTTPS://example.org/a.png", true),
            ("data:image/png;base64,AA==", false),
            ("http", false),
        ] {
            let input = [text(), UserInput::Image(ImageUserInput::new().url(url))];
            assert_eq!(has_remote_image(&input), is_remote, "{url}");
        }
        assert!(!has_remote_image(&[text()]));
    }
}
