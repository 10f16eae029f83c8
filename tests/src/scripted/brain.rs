//! The default brain: what the server does where the script says nothing.
//!
//! It behaves as the real server of 0.163.0 was seen to behave, for the requests that a small program needs: handshake,
//! threads, models, turns, steering, interrupting. Whatever else the real server knows is refused by name, so that nobody
//! takes the fake for more than it is. It owns threads and turns; playing a turn is in the module `turn`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::methods::{EXPERIMENTAL_METHODS, KNOWN_METHODS, METHODS_WITHOUT_PARAMS};
use super::script::Script;
use super::stage::Stage;
use super::turn::Turn;
use super::wire::Call;

/// What the server calls itself, everywhere.
pub(crate) const NAME: &str = "turnwire-scripted-server";

pub(crate) const INVALID_REQUEST: i64 = -32600;
const NOT_SUPPORTED: i64 = -32601;
const INTERNAL: i64 = -32603;

/// A refusal on its way to the client.
pub(crate) struct Refusal {
    pub(crate) code: i64,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: INVALID_REQUEST, message: message.into() }
    }
}

/// What a request leads to at once. `None` means that the reply is somebody's later business, or never comes.
pub(crate) type Outcome = Result<Option<Value>, Refusal>;

/// One thread.
pub(crate) struct Thread {
    pub(crate) id: String,
    pub(crate) name: Value,
    pub(crate) preview: String,
    pub(crate) ephemeral: bool,
    pub(crate) loaded: bool,
    pub(crate) subscribed: bool,
    pub(crate) created_s: u64,
    pub(crate) updated_s: u64,
    /// Names of `thread/settings/updated`; results spell some of them differently.
    pub(crate) settings: Map<String, Value>,
    /// The ended turns, as objects with all items.
    pub(crate) turns: Vec<Value>,
    /// The running turn's key.
    pub(crate) active: Option<u64>,
    /// So many model requests were billed.
    pub(crate) model_requests: u64,
    /// The last turn that ended by an interrupt, until another one starts.
    pub(crate) interrupted: Option<String>,
    /// Interrupts of an interrupted turn: the real server answers them when it answers the next good one.
    pub(crate) unanswered: Vec<Value>,
    pub(crate) archived: bool,
    /// The script says that it was there before.
    pub(crate) was_stored: bool,
    pub(crate) forked_from: Value,
    pub(crate) goal: Value,
}

impl Thread {
    /// Whether there is anything of it to be read: a turn has run on it, or its name was set.
    pub(crate) fn is_stored(&self) -> bool {
        !self.ephemeral && (self.was_stored || !self.preview.is_empty() || !self.name.is_null())
    }
}

/// See the module.
pub(crate) struct Brain {
    initialized: bool,
    pub(crate) experimental: bool,
    opted_out: Vec<String>,
    originator: String,
    /// In the order of creation.
    pub(crate) threads: Vec<Thread>,
    pub(crate) turns: BTreeMap<u64, Turn>,
    pub(crate) next_turn: u64,
    /// The next id of a server request.
    pub(crate) next_request: u64,
    /// Counts model items, for their ids.
    pub(crate) next_item: u64,
}

impl Brain {
    pub(crate) fn new(script: &Script) -> Self {
        let mut brain = Self {
            initialized: false,
            experimental: false,
            opted_out: Vec::new(),
            originator: NAME.to_owned(),
            threads: Vec::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
            next_request: 0,
            next_item: 0,
        };
        for id in &script.stored_threads {
            let mut thread = new_thread(id.clone(), script, script.unix_start_ms / 1000, &Value::Null);
            thread.was_stored = true;
            brain.threads.push(thread);
        }
        brain
    }

    /// A request or notification that no rule took.
    pub(crate) fn handle_call(&mut self, stage: &mut Stage, call: &Call) {
        // The only notification that a client has is `initialized`, and nothing depends on it.
        if call.id.is_null() {
            return;
        }
        match self.dispatch(stage, call) {
            Ok(Some(result)) => stage.respond(&call.id, &result),
            Ok(None) => {}
            Err(refusal) => stage.refuse(&call.id, refusal.code, &refusal.message, None),
        }
    }

    /// A rule has answered this request in the brain's place.
    pub(crate) fn handle_scripted_reply(&mut self, call: &Call) {
        if call.method == "initialize" && !self.initialized {
            self.note_client(&call.params);
        }
    }

    fn dispatch(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let method = call.method.as_str();
        if !KNOWN_METHODS.contains(&method) {
            let known: Vec<String> = KNOWN_METHODS.iter().map(|known| format!("`{known}`")).collect();
            let known = known.join(", ");
            return Err(Refusal::invalid(format!(
                "Invalid request: unknown variant `{method}`, expected one of {known}"
            )));
        }
        if call.params.is_null() && !METHODS_WITHOUT_PARAMS.contains(&method) {
            return Err(Refusal::invalid("Invalid request: missing field `params`"));
        }
        if method == "initialize" {
            return self.initialize(stage, call);
        }
        if !self.initialized {
            return Err(Refusal::invalid("Not initialized"));
        }
        if EXPERIMENTAL_METHODS.contains(&method) && !self.experimental {
            return Err(Refusal::invalid(format!("{method} requires experimentalApi capability")));
        }
        let params = &call.params;
        match method {
            "account/read" => Ok(Some(json!({"account": null, "requiresOpenaiAuth": false}))),
            "model/list" => Ok(Some(models(stage))),
            "thread/list" => self.list_threads(stage, params),
            "thread/loaded/list" => {
                let loaded = self.threads.iter().filter(|thread| thread.loaded);
                let ids: Vec<&str> = loaded.map(|thread| thread.id.as_str()).collect();
                Ok(Some(json!({"data": ids, "nextCursor": null})))
            }
            "thread/name/set" => self.name_thread(stage, call),
            "thread/read" => self.read_thread(stage, params),
            "thread/resume" => self.resume_thread(stage, call),
            "thread/start" => self.start_thread(stage, call),
            "thread/turns/list" => self.list_turns(params),
            "thread/unsubscribe" => {
                let id = text_field(params, "threadId")?;
                let thread = self.threads.iter_mut().find(|thread| thread.id == id && thread.loaded);
                let status = match thread {
                    None => "notLoaded",
                    Some(thread) => {
                        let was_subscribed = std::mem::replace(&mut thread.subscribed, false);
                        if was_subscribed { "unsubscribed" } else { "notSubscribed" }
                    }
                };
                Ok(Some(json!({"status": status})))
            }
            "turn/interrupt" => self.interrupt(stage, call),
            "turn/start" => self.start_turn(stage, call),
            "turn/steer" => self.steer(stage, params),
            _ => self.thread_call(stage, call).unwrap_or_else(|| {
                let message = format!("{NAME} does not play `{method}`: write a rule for it");
                Err(Refusal { code: NOT_SUPPORTED, message })
            }),
        }
    }

    fn initialize(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let info = call.params.get("clientInfo").unwrap_or(&Value::Null);
        if info.is_null() {
            return Err(Refusal::invalid("Invalid request: missing field `clientInfo`"));
        }
        let name = text_field(info, "name")?;
        let version = text_field(info, "version")?;
        if self.initialized {
            return Err(Refusal::invalid("Already initialized"));
        }
        if !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Refusal::invalid(format!(
                "Invalid clientInfo.name: '{name}'. Must be a valid HTTP header value."
            )));
        }
        self.note_client(&call.params);
        let user_agent = format!("{name}/{} ({NAME}; fake) unknown ({name}; {version})", stage.script.version);
        let result = json!({
            "userAgent": user_agent, "codexHome": "/home/user/.codex", "platformFamily": "unix", "platformOs": "linux",
        });
        stage.respond(&call.id, &result);
        if stage.script.startup_notices {
            let warning = json!({"summary": format!("{NAME}: this server is a fake."), "details": null});
            self.notify(stage, "configWarning", &warning);
            let status = json!({
                "status": "disabled", "serverName": NAME, "installationId": "00000000-0000-4000-8000-000000000000",
                "environmentId": null,
            });
            self.notify(stage, "remoteControl/status/changed", &status);
        }
        Ok(None)
    }

    fn note_client(&mut self, params: &Value) {
        self.initialized = true;
        let capabilities = params.get("capabilities").unwrap_or(&Value::Null);
        self.experimental = capabilities.get("experimentalApi").and_then(Value::as_bool).unwrap_or(false);
        let opted_out = capabilities.get("optOutNotificationMethods").and_then(Value::as_array);
        let names = opted_out.into_iter().flatten().filter_map(Value::as_str);
        self.opted_out = names.map(str::to_owned).collect();
        if let Some(name) = params.pointer("/clientInfo/name").and_then(Value::as_str) {
            self.originator = name.to_owned();
        }
    }

    /// Sends a notification unless the client has opted out of it.
    pub(crate) fn notify(&self, stage: &mut Stage, method: &str, params: &Value) {
        if !self.opted_out.iter().any(|out| out == method) {
            stage.notify(method, params);
        }
    }

    /// Sends a notification that only subscribers of the thread get.
    pub(crate) fn notify_subscriber(&self, stage: &mut Stage, thread: usize, method: &str, params: &Value) {
        if self.threads.get(thread).is_some_and(|thread| thread.subscribed) {
            self.notify(stage, method, params);
        }
    }

    pub(crate) fn notify_status(&self, stage: &mut Stage, thread: usize, status: &Value) {
        if let Some(thread) = self.threads.get(thread) {
            self.notify(stage, "thread/status/changed", &json!({"threadId": thread.id, "status": status}));
        }
    }

    // Threads.

    pub(crate) fn find_thread(&self, id: &str) -> Option<usize> {
        self.threads.iter().position(|thread| thread.id == id)
    }

    /// The thread that a turn request is about.
    pub(crate) fn thread_of(&self, params: &Value) -> Result<usize, Refusal> {
        let id = text_field(params, "threadId")?;
        let index = self.find_thread(id).filter(|index| self.threads.get(*index).is_some_and(|thread| thread.loaded));
        index.ok_or_else(|| not_found("thread not found", id))
    }

    fn start_thread(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        if let Some(mode) = call.params.get("sandbox").filter(|mode| !mode.is_null()) {
            if sandbox_policy(mode).is_none() {
                let mode = mode.as_str().unwrap_or_default();
                return Err(Refusal::invalid(format!(
                    "Invalid request: unknown variant `{mode}`, expected one of `read-only`, `workspace-write`, \
                     `danger-full-access`"
                )));
            }
        }
        if call.params.get("dynamicTools").is_some() && !self.experimental {
            return Err(Refusal::invalid("thread/start.dynamicTools requires experimentalApi capability"));
        }
        let mut id = stage.new_uuid();
        while self.find_thread(&id).is_some() {
            id = stage.new_uuid();
        }
        let mut thread = new_thread(id, &stage.script, stage.unix_s(), &call.params);
        thread.loaded = true;
        thread.subscribed = true;
        stage.latest_thread = Some(thread.id.clone());
        self.threads.push(thread);
        let index = self.threads.len() - 1;
        stage.respond(&call.id, &self.thread_result(stage, index, false));
        let started = json!({"thread": self.thread_object(stage, index, false)});
        self.notify(stage, "thread/started", &started);
        Ok(None)
    }

    fn resume_thread(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let id = text_field(&call.params, "threadId")?;
        let index = match self.find_thread(id) {
            Some(index)
                if self.threads.get(index).is_some_and(|thread| thread.ephemeral || thread.active.is_some()) =>
            {
                index
            }
            Some(_) => self.stored(id)?,
            None if stage.script.resume_any && is_uuid(id) => {
                self.threads.push(new_thread(id.to_owned(), &stage.script, stage.unix_s(), &call.params));
                self.threads.len() - 1
            }
            None => return Err(not_found("no rollout found for thread id", id).without_colon()),
        };
        let with_turns = !flag(&call.params, "excludeTurns");
        if with_turns {
            let notice = "Full-history hydration is deprecated for paginated threads; use `excludeTurns: true`.";
            self.notify(stage, "deprecationNotice", &json!({"summary": notice, "details": null}));
        }
        stage.latest_thread = Some(id.to_owned());
        let was_loaded = self.threads.get(index).is_some_and(|thread| thread.loaded);
        if let Some(thread) = self.threads.get_mut(index) {
            thread.subscribed = true;
            // Overrides on a loaded thread are ignored without a word.
            if !was_loaded {
                thread.loaded = true;
                apply_settings(&mut thread.settings, &call.params);
            }
        }
        if !was_loaded {
            self.notify_status(stage, index, &json!({"type": "idle"}));
        }
        let mut result = self.thread_result(stage, index, with_turns);
        if call.params.get("initialTurnsPage").is_some_and(Value::is_object) {
            result["initialTurnsPage"] = self.latest_turn_page(stage, index);
        }
        stage.respond(&call.id, &result);
        if !was_loaded {
            let last = self.threads.get(index).and_then(|thread| thread.turns.last());
            if let Some(turn) = last.and_then(|turn| turn.get("id")).and_then(Value::as_str).map(str::to_owned) {
                self.notify_usage(stage, index, &turn);
            }
        }
        self.notify(stage, "thread/goal/cleared", &json!({"threadId": id}));
        Ok(None)
    }

    fn read_thread(&mut self, stage: &mut Stage, params: &Value) -> Outcome {
        let id = text_field(params, "threadId")?;
        if !is_uuid(id) {
            return Err(not_found("invalid thread id", id));
        }
        let index = self.find_thread(id).ok_or_else(|| not_found("thread not loaded", id))?;
        let with_turns = flag(params, "includeTurns");
        let ephemeral = self.threads.get(index).is_some_and(|thread| thread.ephemeral);
        if with_turns && ephemeral {
            return Err(Refusal::invalid("ephemeral threads do not support includeTurns"));
        }
        if with_turns && self.threads.get(index).is_some_and(|thread| thread.turns.is_empty()) {
            return Err(Refusal { code: NOT_SUPPORTED, message: "list_turns is not supported yet".to_owned() });
        }
        if with_turns {
            let notice = "Full-history hydration is deprecated for paginated threads; omit `includeTurns`.";
            self.notify(stage, "deprecationNotice", &json!({"summary": notice, "details": null}));
        }
        Ok(Some(json!({"thread": self.thread_object(stage, index, with_turns)})))
    }

    /// Newest first. The cursor names the last thread of the page.
    fn list_threads(&mut self, stage: &mut Stage, params: &Value) -> Outcome {
        let limit = params.get("limit").and_then(Value::as_u64).map_or(25, |limit| limit.max(1));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let cursor = params.get("cursor").and_then(Value::as_str);
        let before = match cursor.map(|id| (id, self.find_thread(id))) {
            Some((id, None)) => return Err(not_found("invalid cursor", id)),
            Some((_, Some(index))) => index,
            None => self.threads.len(),
        };
        let archived = flag(params, "archived");
        let listed: Vec<usize> = (0..before)
            .rev()
            .filter(|&index| {
                // A thread without a turn is not stored.
                let thread = self.threads.get(index);
                thread.is_some_and(|thread| thread.archived == archived && thread.is_stored() && !thread.id.is_empty())
            })
            .collect();
        let page: Vec<usize> = listed.iter().copied().take(limit).collect();
        let next = if listed.len() > page.len() { page.last() } else { None };
        let next = next.and_then(|&index| self.threads.get(index)).map(|thread| thread.id.clone());
        let data: Vec<Value> = page.iter().map(|&index| self.thread_object(stage, index, false)).collect();
        Ok(Some(json!({"data": data, "nextCursor": next, "backwardsCursor": null, "readStates": {}})))
    }

    fn list_turns(&mut self, params: &Value) -> Outcome {
        let id = text_field(params, "threadId")?;
        let index = self.find_thread(id).ok_or_else(|| not_found("thread not loaded", id))?;
        let turns = self.threads.get(index).map(|thread| thread.turns.as_slice()).unwrap_or_default();
        let newest_first: Vec<&Value> = turns.iter().rev().collect();
        Ok(Some(json!({"data": newest_first, "nextCursor": null, "backwardsCursor": null})))
    }

    fn name_thread(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let id = text_field(&call.params, "threadId")?;
        let name = text_field(&call.params, "name")?;
        let index = self.find_thread(id);
        let thread = index.and_then(|index| self.threads.get_mut(index));
        let thread = thread.ok_or_else(|| not_found("no rollout found for thread id", id).without_colon())?;
        if name.trim().is_empty() {
            return Err(Refusal::invalid("thread name must not be empty"));
        }
        thread.name = Value::from(name);
        stage.respond(&call.id, &json!({}));
        self.notify(stage, "thread/name/updated", &json!({"threadId": id, "threadName": name}));
        Ok(None)
    }

    pub(crate) fn thread_object(&self, stage: &Stage, index: usize, with_turns: bool) -> Value {
        let Some(thread) = self.threads.get(index) else { return Value::Null };
        let setting = |name: &str| thread.settings.get(name).cloned().unwrap_or_default();
        let active = thread.active.and_then(|key| self.turns.get(&key)).filter(|turn| turn.started);
        let status = match active {
            Some(turn) => json!({"type": "active", "activeFlags": turn.flags()}),
            None if thread.loaded => json!({"type": "idle"}),
            None => json!({"type": "notLoaded"}),
        };
        let mut turns = if with_turns { thread.turns.clone() } else { Vec::new() };
        if let Some(turn) = active.filter(|_| with_turns) {
            turns.push(turn.object(stage, "inProgress", turn.items.clone(), "full", Value::Null));
        }
        let path = format!("/home/user/.codex/sessions/rollout-{}.jsonl", thread.id);
        let cwd = setting("cwd");
        json!({
            "id": thread.id, "environments": [{"environmentId": "local", "cwd": cwd, "runtimeWorkspaceRoots": [cwd]}],
            "extra": null, "sessionId": thread.id, "forkedFromId": thread.forked_from, "parentThreadId": null,
            "preview": thread.preview, "ephemeral": thread.ephemeral, "section": null, "sectionEnteredAt": null,
            "projectId": null, "historyMode": "paginated", "modelProvider": "mock", "model": setting("model"),
            "reasoningEffort": setting("effort"), "createdAt": thread.created_s, "updatedAt": thread.updated_s,
            "recencyAt": thread.updated_s, "status": status,
            "path": if thread.ephemeral { Value::Null } else { Value::from(path) }, "cwd": cwd,
            "cliVersion": stage.script.version, "originator": self.originator, "source": "vscode",
            "canAcceptDirectInput": true, "threadSource": null, "agentNickname": null, "agentRole": null,
            "gitInfo": null, "name": thread.name, "daybreakEnabled": null, "turns": turns,
        })
    }

    /// The result of `thread/start` and `thread/resume`: the thread and the settings in force.
    pub(crate) fn thread_result(&self, stage: &Stage, index: usize, with_turns: bool) -> Value {
        let settings = self.threads.get(index).map(|thread| thread.settings.clone()).unwrap_or_default();
        let setting = |name: &str| settings.get(name).cloned().unwrap_or_default();
        json!({
            "thread": self.thread_object(stage, index, with_turns), "model": setting("model"), "modelProvider": "mock",
            "serviceTier": setting("serviceTier"), "disabledPluginIds": [], "cwd": setting("cwd"),
            "runtimeWorkspaceRoots": [setting("cwd")], "instructionSources": [],
            "approvalPolicy": setting("approvalPolicy"), "approvalsReviewer": setting("approvalsReviewer"),
            "sandbox": setting("sandboxPolicy"), "activePermissionProfile": null,
            "reasoningEffort": setting("effort"), "multiAgentMode": "explicitRequestOnly",
        })
    }

    pub(crate) fn notify_settings(&self, stage: &mut Stage, index: usize) {
        let Some(thread) = self.threads.get(index).filter(|_| self.experimental) else { return };
        let setting = |name: &str| thread.settings.get(name).cloned().unwrap_or_default();
        let settings = json!({
            "disabledPluginIds": [], "cwd": setting("cwd"), "approvalPolicy": setting("approvalPolicy"),
            "approvalsReviewer": setting("approvalsReviewer"), "sandboxPolicy": setting("sandboxPolicy"),
            "activePermissionProfile": null, "model": setting("model"), "modelProvider": "mock",
            "serviceTier": setting("serviceTier"), "effort": setting("effort"), "summary": setting("summary"),
            "collaborationMode": {"mode": "default", "settings": {
                "model": setting("model"), "reasoning_effort": setting("effort"), "developer_instructions": null}},
            "multiAgentMode": "explicitRequestOnly", "personality": setting("personality"),
        });
        let params = json!({"threadId": thread.id, "threadSettings": settings});
        self.notify_subscriber(stage, index, "thread/settings/updated", &params);
    }

    /// The usage so far. Every model request costs the same.
    pub(crate) fn notify_usage(&self, stage: &mut Stage, index: usize, turn: &str) {
        let Some(thread) = self.threads.get(index) else { return };
        let usage = |requests: u64| {
            json!({
                "totalTokens": 15 * requests, "inputTokens": 10 * requests, "cachedInputTokens": 0,
                "cacheWriteInputTokens": 0, "outputTokens": 5 * requests, "reasoningOutputTokens": 0,
            })
        };
        let usage = json!({"total": usage(thread.model_requests), "last": usage(1), "modelContextWindow": 258_400});
        let params = json!({"threadId": thread.id, "turnId": turn, "tokenUsage": usage});
        self.notify_subscriber(stage, index, "thread/tokenUsage/updated", &params);
    }
}

impl Refusal {
    /// Some messages name the id without a colon before it.
    fn without_colon(mut self) -> Self {
        self.message = self.message.replacen(": ", " ", 1);
        self
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { code: INTERNAL, message: message.into() }
    }
}

fn not_found(what: &str, id: &str) -> Refusal {
    Refusal::invalid(format!("{what}: {id}"))
}

/// A required member that is a text.
pub(crate) fn text_field<'a>(params: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    match params.get(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(Refusal::invalid(format!("Invalid request: missing field `{name}`"))),
        Some(_) => Err(Refusal::invalid(format!("Invalid request: invalid type for `{name}`, expected a string"))),
    }
}

fn flag(params: &Value, name: &str) -> bool {
    params.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

pub(crate) fn new_thread(id: String, script: &Script, now_s: u64, params: &Value) -> Thread {
    let mut settings = Map::new();
    settings.insert("model".to_owned(), Value::from(script.model.as_str()));
    settings.insert("cwd".to_owned(), Value::from(script.cwd.as_str()));
    settings.insert("approvalPolicy".to_owned(), Value::from("on-request"));
    settings.insert("approvalsReviewer".to_owned(), Value::from("user"));
    settings.insert("sandboxPolicy".to_owned(), json!({"type": "readOnly", "networkAccess": false}));
    apply_settings(&mut settings, params);
    Thread {
        id,
        name: Value::Null,
        preview: String::new(),
        ephemeral: flag(params, "ephemeral"),
        loaded: false,
        subscribed: false,
        created_s: now_s,
        updated_s: now_s,
        settings,
        turns: Vec::new(),
        active: None,
        model_requests: 0,
        interrupted: None,
        unanswered: Vec::new(),
        archived: false,
        was_stored: false,
        forked_from: Value::Null,
        goal: Value::Null,
    }
}

/// Takes overrides over, in the spelling of `thread/start` and of `turn/start`. True if anything changed.
pub(crate) fn apply_settings(settings: &mut Map<String, Value>, params: &Value) -> bool {
    let mut changed = false;
    let names = ["model", "cwd", "approvalPolicy", "approvalsReviewer", "effort", "summary", "personality"];
    let plain = names.iter().map(|&name| (name, params.get(name).filter(|value| !value.is_null()).cloned()));
    let policy = params.get("sandboxPolicy").filter(|policy| !policy.is_null()).cloned();
    let policy = policy.or_else(|| params.get("sandbox").and_then(sandbox_policy));
    // Null resets the service tier; for the others it is the same as absent.
    let tier = params.get("serviceTier").cloned();
    for (name, value) in plain.chain([("sandboxPolicy", policy), ("serviceTier", tier)]) {
        if let Some(value) = value {
            let old = settings.insert(name.to_owned(), value.clone()).unwrap_or_default();
            changed |= old != value;
        }
    }
    changed
}

fn sandbox_policy(mode: &Value) -> Option<Value> {
    match mode.as_str()? {
        "danger-full-access" => Some(json!({"type": "dangerFullAccess"})),
        "read-only" => Some(json!({"type": "readOnly", "networkAccess": false})),
        "workspace-write" => Some(json!({
            "type": "workspaceWrite", "writableRoots": [], "networkAccess": false, "excludeTmpdirEnvVar": false,
            "excludeSlashTmp": false,
        })),
        _ => None,
    }
}

fn models(stage: &Stage) -> Value {
    let model = stage.script.model.as_str();
    json!({"data": [{
        "id": model, "model": model, "displayName": model, "description": format!("The model of {NAME}; fake."),
        "hidden": false, "isDefault": true, "defaultReasoningEffort": "medium",
        "supportedReasoningEfforts": [
            {"reasoningEffort": "low", "description": "Quick"}, {"reasoningEffort": "medium", "description": "Usual"},
        ],
        "inputModalities": ["text", "image"], "serviceTiers": [], "supportsPersonality": false, "upgrade": null,
    }], "nextCursor": null})
}
