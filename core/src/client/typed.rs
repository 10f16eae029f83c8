//! Answers in a form of the caller's own.

use super::{Turn, TurnRequest};
use crate::{
    error::TurnError,
    json::Json,
    schema::{self, SchemaError},
    turn::TurnResult,
};
use serde::de::DeserializeOwned;
use std::{error::Error, fmt};

/// An answer that was read as a type, and the whole result of the turn that gave it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Typed<T> {
    /// The answer.
    pub value: T,
    /// What else the turn came to: the text of the answer, items, tokens.
    pub result: TurnResult,
}

/// An answer that does not fit the type that was expected.
///
/// `Debug` and `Display` show where, but not what stands there, because that is the agent's text.
#[derive(Clone)]
#[non_exhaustive]
pub struct Mismatch {
    /// The line of the answer, counted from 1; 0 if there is no answer.
    pub line: usize,
    /// The column in it, in bytes, counted from 1; 0 for the line as a whole.
    pub column: usize,
    /// What serde says. It may quote the answer.
    pub message: String,
    /// The turn as it came: the text of the answer is its `final_response`, and its tokens were used.
    pub result: Box<TurnResult>,
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mismatch")
            .field("line", &self.line)
            .field("column", &self.column)
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, result, .. } = self;
        match &result.final_response {
            Some(_) => write!(f, "the answer does not fit its type at line {line}, column {column}"),
            None => write!(f, "there is no answer to read: the turn ended as {}", result.status),
        }
    }
}

impl Error for Mismatch {}

/// Why there is no answer of the type that was asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TypedError {
    /// The turn was run, and its answer does not fit.
    Mismatch(Mismatch),
    /// The type has no schema that a model takes. Nothing was sent.
    Schema(SchemaError),
    /// The turn did not come to an answer.
    Turn(TurnError),
}

impl TypedError {
    /// What the turn produced all the same, if it ran.
    #[must_use]
    pub fn result(&self) -> Option<&TurnResult> {
        match self {
            Self::Mismatch(mismatch) => Some(&mismatch.result),
            Self::Schema(_) => None,
            Self::Turn(error) => error.report(),
        }
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch(mismatch) => write!(f, "{mismatch}"),
            Self::Schema(error) => write!(f, "the turn did not start: {error}"),
            Self::Turn(error) => write!(f, "{error}"),
        }
    }
}

impl Error for TypedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Mismatch(mismatch) => Some(mismatch),
            Self::Schema(error) => Some(error),
            Self::Turn(error) => Some(error),
        }
    }
}

impl From<SchemaError> for TypedError {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}

impl From<TurnError> for TypedError {
    fn from(error: TurnError) -> Self {
        Self::Turn(error)
    }
}

impl From<Mismatch> for TypedError {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(mismatch)
    }
}

impl TurnResult {
    /// Reads the answer as JSON of this type. A key whose value is null is `None` of an `Option`.
    ///
    /// # Errors
    /// When there is no answer, or when it does not fit.
    pub fn decode<T: DeserializeOwned>(self) -> Result<Typed<T>, Mismatch> {
        let answer = self.final_response.as_deref();
        match answer.map(serde_json::from_str) {
            Some(Ok(value)) => Ok(Typed { value, result: self }),
            Some(Err(error)) => Err(Mismatch {
                line: error.line(),
                column: error.column(),
                message: error.to_string(),
                result: Box::new(self),
            }),
            None => Err(Mismatch { line: 0, column: 0, message: "no answer".into(), result: Box::new(self) }),
        }
    }
}

impl TurnRequest {
    /// The JSON schema that the final answer must fit (`outputSchema`), for this turn only, checked and brought into the
    /// form that models take in strict mode; see [`schema::normalise`].
    ///
    /// # Errors
    /// Every fault of the schema that cannot be mended, with its path.
    pub fn strict_output_schema(self, schema: impl Into<Json>) -> Result<Self, SchemaError> {
        Ok(self.output_schema(schema::normalise(&schema.into())?))
    }

    /// The same with the schema of a Rust type.
    ///
    /// # Errors
    /// When the type cannot be said in a strict schema: a map, a tuple, a value of any type, or anything at the root that is
    /// no struct.
    #[cfg(feature = "schemars")]
    pub fn output_type<T: schemars::JsonSchema>(self) -> Result<Self, SchemaError> {
        self.strict_output_schema(schemars::schema_for!(T).to_value())
    }
}

impl Turn {
    /// Waits for the end, and reads the answer as JSON of this type. See [`result`](Self::result).
    ///
    /// # Errors
    /// As for [`result`](Self::result), and when the answer does not fit.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn result_typed<T: DeserializeOwned>(&self) -> Result<Typed<T>, TypedError> {
        Ok(self.result().await?.decode()?)
    }
}

#[cfg(feature = "schemars")]
impl super::Thread {
    /// Runs a turn whose answer is a value of this type: its schema is sent with the turn (`turn/start`, `outputSchema`), and
    /// the answer is read.
    ///
    /// ```no_run
    /// # async fn example(thread: turnwire_core::client::Thread) -> Result<(), turnwire_core::client::TypedError> {
    /// #[derive(schemars::JsonSchema, serde::Deserialize)]
    /// struct Finding {
    ///     file: String,
    ///     line: Option<u32>,
    /// }
    ///
    /// #[derive(schemars::JsonSchema, serde::Deserialize)]
    /// struct Findings {
    ///     findings: Vec<Finding>,
    /// }
    ///
    /// let typed = thread.run_typed::<Findings>("Which lines of this project panic?").await?;
    /// println!("{} for {:?}", typed.value.findings.len(), typed.result.usage);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Before anything is sent, when the type has no strict schema. As for [`run`](Self::run). When the answer does not fit;
    /// the error keeps the text and the tokens.
    ///
    /// # Cancel safety
    /// As for [`run`](Self::run).
    pub async fn run_typed<T: schemars::JsonSchema + DeserializeOwned>(
        &self,
        request: impl Into<TurnRequest>,
    ) -> Result<Typed<T>, TypedError> {
        let request = request.into().output_type::<T>()?;
        Ok(self.run(request).await?.decode()?)
    }
}
