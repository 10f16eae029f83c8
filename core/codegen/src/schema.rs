//! The checked-in form of a server's schema, and how it is made from what the server prints.
//!
//! The server prints two schemas: one with its experimental surface, one without. What is checked in is the first,
//! stripped of prose and with every reference made local, plus the list of what the second lacks. One definition
//! stands on a line, so that a new version reads well as a diff.

use serde_json::{Map, Value};
use std::{collections::BTreeSet, fs, io, path::Path, process::Command};

/// A server's schema.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    /// The server's version.
    pub(crate) version: String,
    /// Every named type, the three lists of methods included.
    pub(crate) definitions: Map<String, Value>,
    /// The members, values and methods that the stable schema lacks, as [`crate::model::Model`'s surface] names them.
    pub(crate) experimental: BTreeSet<String>,
}

/// The file that holds every definition in what the server prints.
const PRINTED: &str = "codex_app_server_protocol.schemas.json";

/// Types that only frame messages, which is not this crate's business.
const FRAMING: [&str; 8] = [
    "ClientNotification",
    "JSONRPCError",
    "JSONRPCErrorError",
    "JSONRPCMessage",
    "JSONRPCNotification",
    "JSONRPCRequest",
    "JSONRPCResponse",
    "RequestId",
];

impl Schema {
    /// Reads a checked-in schema.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut value: Map<String, Value> = serde_json::from_str(&text)?;
        let version = value.get("version").and_then(Value::as_str).unwrap_or_default().to_owned();
        let experimental = match value.remove("experimental") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => BTreeSet::new(),
        };
        let definitions = match value.remove("definitions") {
            Some(Value::Object(definitions)) => definitions,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: no definitions", path.display()))),
        };
        Ok(Self { version, definitions, experimental })
    }

    /// The text to check in.
    pub(crate) fn to_text(&self) -> String {
        let names: Vec<String> = self.experimental.iter().map(|name| Value::from(name.as_str()).to_string()).collect();
        let definitions: Vec<String> =
            self.definitions.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
        format!(
            "{{\"version\":{},\n\"experimental\":[\n{}\n],\n\"definitions\":{{\n{}\n}}}}\n",
            Value::from(self.version.as_str()),
            names.join(",\n"),
            definitions.join(",\n")
        )
    }

    /// Reads what a server printed, without knowing what is experimental.
    pub(crate) fn from_printed(dir: &Path, version: &str) -> io::Result<Self> {
        let path = dir.join(PRINTED);
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let mut value: Map<String, Value> = serde_json::from_str(&text)?;
        let mut all = Map::new();
        if let Some(Value::Object(mut top)) = value.remove("definitions") {
            if let Some(Value::Object(second)) = top.remove("v2") {
                all.extend(second);
            }
            all.extend(top);
        }
        let definitions = all
            .into_iter()
            // `NullableX` is X or null; what refers to it says as much.
            .filter(|(name, _)| !FRAMING.contains(&name.as_str()) && !name.starts_with("Nullable"))
            .map(|(name, value)| (name, minimised(value, false)))
            .collect();
        Ok(Self { version: version.to_owned(), definitions, experimental: BTreeSet::new() })
    }

    /// Lets a server print its schema into `dir`, in `stable` and `experimental`, and reads both.
    pub(crate) fn print(binary: &Path, dir: &Path) -> io::Result<Self> {
        let home = dir.join("home");
        fs::create_dir_all(&home)?;
        let run = |args: &[&std::ffi::OsStr]| -> io::Result<String> {
            let output = Command::new(binary).args(args).env("CODEX_HOME", &home).output()?;
            if !output.status.success() {
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(io::Error::other(format!("{} failed: {stderr}", binary.display())));
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let version = run(&["--version".as_ref()])?;
        let version = version.split_whitespace().last().unwrap_or_default();
        let (stable, experimental) = (dir.join("stable"), dir.join("experimental"));
        for (out, flag) in [(&stable, None), (&experimental, Some("--experimental"))] {
            let mut args: Vec<&std::ffi::OsStr> =
                vec!["app-server".as_ref(), "generate-json-schema".as_ref(), "--out".as_ref(), out.as_os_str()];
            args.extend(flag.map(std::ffi::OsStr::new));
            fs::create_dir_all(out)?;
            run(&args)?;
        }
        Self::from_two(&stable, &experimental, version)
    }

    /// Reads the two schemas of one server.
    pub(crate) fn from_two(stable: &Path, experimental: &Path, version: &str) -> io::Result<Self> {
        let stable = crate::model::Model::new(&Self::from_printed(stable, version)?).surface;
        let mut schema = Self::from_printed(experimental, version)?;
        let whole = crate::model::Model::new(&schema).surface;
        schema.experimental = whole.difference(&stable).cloned().collect();
        Ok(schema)
    }
}

/// Drops prose and bounds, and makes references local. Inside `properties` every key is a name.
fn minimised(value: Value, names: bool) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .filter(|(key, value)| {
                    let prose = matches!(key.as_str(), "description" | "$schema" | "$comment" | "default");
                    let bound = matches!(key.as_str(), "minimum" | "maximum" | "minLength");
                    let closed = key == "additionalProperties" && *value == Value::Bool(false);
                    names || !(prose || bound || closed)
                })
                .map(|(key, value)| {
                    let inside = !names && key == "properties";
                    (key, minimised(value, inside))
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(|value| minimised(value, false)).collect()),
        Value::String(text) => match text.strip_prefix("#/definitions/") {
            Some(name) => Value::String(name.trim_start_matches("v2/").to_owned()),
            None => Value::String(text),
        },
        other => other,
    }
}
