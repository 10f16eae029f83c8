//! Writes the protocol types of turnwire-core from the schema that the server prints of itself, and says what another
//! server's schema has that the checked-in one has not.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod emit;
mod model;
mod names;
mod report;
mod schema;
mod words;

use model::Model;
use schema::Schema;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The versions that are checked in, oldest first; types are generated from the last. The core knows them too
/// (`connection/needs.rs`).
const VERSIONS: [&str; 4] = ["0.133.0", "0.144.4", "0.154.0", "0.163.0"];

const USAGE: &str = "usage: turnwire-codegen COMMAND

  generate                             write the protocol's types from the schemas that are checked in
  report --against DIR|BINARY|FILE     what another server's schema has that ours has not; exit code 1 when something
                                       required is gone, 2 when the report could not be made
  print BINARY DIR                     check in the schema of a server; DIR is for what it prints
  import STABLE EXPERIMENTAL VERSION   check in a schema from two folders that a server printed";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn models() -> io::Result<Vec<Model>> {
    VERSIONS
        .iter()
        .map(|version| Schema::load(&root().join(format!("schema/{version}.json"))).map(|schema| Model::new(&schema)))
        .collect()
}

fn schemas() -> io::Result<Vec<Schema>> {
    VERSIONS.iter().map(|version| Schema::load(&root().join(format!("schema/{version}.json")))).collect()
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["import", stable, experimental, version] => {
            Schema::from_two(Path::new(stable), Path::new(experimental), version).and_then(|schema| import(&schema))
        }
        ["print", binary, dir] => Schema::print(Path::new(binary), Path::new(dir)).and_then(|schema| import(&schema)),
        ["report", "--against", other] => return report(Path::new(other)),
        ["generate"] => generate(&root().join("../src/protocol/areas")),
        _ => Err(io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(2)
}

/// Says what drifted.
fn report(other: &Path) -> ExitCode {
    let compared = models().and_then(|mut models| {
        let ours = models.pop().ok_or_else(|| io::Error::other("no schema"))?;
        let other = Model::new(&schema_of(other)?);
        Ok((report::Report::new(&ours, &other), ours.version, other.version))
    });
    match compared {
        Ok((report, ours, other)) => {
            print!("{}", report.text(&ours, &other));
            if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => failed(&error),
    }
}

/// The schema of a server's binary, of a folder that one printed, or of a file as they are checked in.
fn schema_of(path: &Path) -> io::Result<Schema> {
    if path.is_dir() {
        let inner = path.join("experimental");
        let version = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Schema::from_printed(if inner.is_dir() { &inner } else { path }, &version)
    } else if path.extension().is_some_and(|extension| extension == "json") {
        Schema::load(path)
    } else {
        let dir = env::temp_dir().join(format!("turnwire-codegen-{}", std::process::id()));
        let printed = Schema::print(path, &dir);
        fs::remove_dir_all(&dir)?;
        printed
    }
}

/// Checks a schema in.
fn import(schema: &Schema) -> io::Result<()> {
    fs::write(root().join(format!("schema/{}.json", schema.version)), schema.to_text())
}

fn generate(dir: &Path) -> io::Result<()> {
    let files = emit::files(&models()?).map_err(io::Error::other)?;
    fs::create_dir_all(dir)?;
    for (name, text) in files {
        fs::write(dir.join(name), text)?;
    }
    fs::write(dir.join("../../record/words.rs"), words::file(&schemas()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::Report;
    use serde_json::{Value, json};

    fn schema(version: &str) -> Schema {
        Schema::load(&root().join(format!("schema/{version}.json"))).unwrap()
    }

    fn checked_in() -> (Schema, Model) {
        let schema = schema("0.163.0");
        let model = Model::new(&schema);
        (schema, model)
    }

    #[test]
    fn dr_08_the_checked_in_types_are_what_the_checked_in_schemas_make() {
        let files = emit::files(&models().unwrap()).unwrap();
        let dir = root().join("../src/protocol/areas");
        let mut there: Vec<String> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        there.sort();
        let mut made: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
        made.sort();
        assert_eq!(there, made);
        for (name, text) in files {
            assert!(fs::read_to_string(dir.join(&name)).unwrap() == text, "{name} is not what the generator writes");
        }
    }

    #[test]
    fn ob_03_what_may_stay_in_a_recording_is_what_the_checked_in_schemas_spell_out() {
        let there = fs::read_to_string(root().join("../src/record/words.rs")).unwrap();
        assert!(there == words::file(&schemas().unwrap()), "words.rs is not what the generator writes");
    }

    #[test]
    fn dr_08_the_pinned_server_prints_the_checked_in_schema() {
        let name = "dr_08_the_pinned_server_prints_the_checked_in_schema";
        let Some(binary) = turnwire_testkit::real::find_or_skip(name) else { return };
        let dir = env::temp_dir().join(format!("turnwire-codegen-test-{}", std::process::id()));
        let printed = Schema::print(&binary, &dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(printed.version, "0.163.0", "TURNWIRE_CODEX must name the pinned server");
        let checked_in = fs::read_to_string(root().join("schema/0.163.0.json")).unwrap();
        assert!(printed.to_text() == checked_in, "the server's schema is not the one that is checked in");
    }

    #[test]
    fn dr_08_the_report_of_a_schema_against_itself_is_empty() {
        let (_, ours) = checked_in();
        let report = Report::new(&ours, &ours);
        assert!(report.new.is_empty() && report.changed.is_empty() && report.removed.is_empty(), "{report:?}");
        assert!(report.broken.is_empty(), "{report:?}");
    }

    #[test]
    fn dr_08_the_older_servers_differ_but_lack_nothing_that_is_required() {
        let (_, ours) = checked_in();
        for version in ["0.133.0", "0.144.4", "0.154.0"] {
            let report = Report::new(&ours, &Model::new(&schema(version)));
            assert!(!report.removed.is_empty(), "{version}");
            assert!(report.broken.is_empty(), "{version}: {:?}", report.broken);
        }
        let report = Report::new(&ours, &Model::new(&schema("0.133.0")));
        assert!(report.new.iter().any(|entry| entry == "request thread/rollback"), "{:?}", report.new);
        assert!(report.removed.iter().any(|entry| entry == "request thread/revert"), "{:?}", report.removed);
    }

    #[test]
    fn dr_08_new_methods_members_and_words_are_reported_and_break_nothing() {
        let (mut schema, ours) = checked_in();
        "0.999.0".clone_into(&mut schema.version);
        schema.definitions["Turn"]["properties"]["mood"] = json!({"type": "string"});
        schema.definitions["TurnStatus"]["enum"].as_array_mut().unwrap().push(json!("daydreaming"));
        schema.definitions["ClientRequest"]["oneOf"].as_array_mut().unwrap().push(json!({
            "properties": {"method": {"enum": ["thread/dream"]}, "params": {"$ref": "ThreadReadParams"}},
        }));
        let report = Report::new(&ours, &Model::new(&schema));
        assert_eq!(report.new, ["Turn.mood", "TurnStatus=daydreaming", "request thread/dream"]);
        assert!(report.removed.is_empty() && report.changed.is_empty() && report.broken.is_empty(), "{report:?}");
    }

    #[test]
    fn dr_08_what_is_gone_breaks_only_where_it_is_required() {
        let (mut schema, ours) = checked_in();
        "0.999.0".clone_into(&mut schema.version);
        let remove = |value: &mut Value, name: &str| value["properties"].as_object_mut().unwrap().remove(name).unwrap();
        remove(&mut schema.definitions["Thread"], "preview");
        remove(&mut schema.definitions["ThreadItem"]["oneOf"][2], "phase");
        let report = Report::new(&ours, &Model::new(&schema));
        assert_eq!(report.removed, ["AgentMessageItem.phase", "Thread.preview"]);
        assert!(report.broken.is_empty(), "{report:?}");

        remove(&mut schema.definitions["Turn"], "status");
        schema.definitions["Thread"]["properties"]["id"] = json!({"type": "integer"});
        schema.definitions["TurnStatus"]["enum"].as_array_mut().unwrap().retain(|word| word != "completed");
        schema.definitions["ServerNotification"]["oneOf"]
            .as_array_mut()
            .unwrap()
            .retain(|method| method["properties"]["method"]["enum"][0] != "turn/completed");
        let report = Report::new(&ours, &Model::new(&schema));
        assert_eq!(
            report.broken,
            [
                "Thread.id: ThreadId, there i64",
                "Turn.status is gone",
                "TurnStatus=completed is gone",
                "notification turn/completed is gone",
            ]
        );
    }

    #[test]
    fn dr_08_every_method_is_typed_and_its_stability_known() {
        let (schema, ours) = checked_in();
        let experimental = |kind: &str, list: &[model::Method]| {
            list.iter().filter(|method| schema.experimental.contains(&format!("{kind} {}", method.name))).count()
        };
        assert_eq!((ours.requests.len(), experimental("request", &ours.requests)), (172, 172 - 105));
        assert_eq!((ours.server_requests.len(), experimental("serverRequest", &ours.server_requests)), (11, 1));
        assert_eq!(ours.notifications.len(), 85 + names::UNLISTED_NOTIFICATIONS.len());
    }
}
