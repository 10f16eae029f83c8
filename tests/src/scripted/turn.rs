//! How the default brain plays a turn: a row of beats, each with a delay before it.
//!
//! Steering and joining put input into the turn's inbox; it is used when the current model request ends. An interrupt drops
//! the beats that are left.

use std::collections::VecDeque;
use std::mem;

use serde_json::{Value, json};

use super::brain::{Brain, Outcome, Refusal, apply_settings, text_field};
use super::plan::{CommandPlan, Early, FileChangePlan, TurnPlan};
use super::stage::{Slot, Stage, Task};
use super::wire::{self, Call};

/// One thing that a turn does.
enum Beat {
    /// Asks the client whether to do what the item holds.
    Ask(Approval),
    Completed(Value),
    /// The end of a model request: usage, then either the inbox or the end.
    EndOfRequest,
    Fail,
    /// The end of the turn.
    Finish,
    /// Waits for a steer, a join or an interrupt.
    Hold,
    /// A notification of the turn; thread and turn id are added.
    Notify(&'static str, Value),
    /// The reply to `turn/start`.
    Reply,
    SettingsChanged,
    Started(Value),
    TurnStarted,
    Usage,
}

/// What the client is asked, and the item that it is about.
struct Approval {
    method: &'static str,
    item: Value,
}

/// Input that came for a running turn.
struct Mail {
    input: Value,
    client_id: Value,
}

/// See the module.
pub(crate) struct Turn {
    pub(crate) id: String,
    thread: usize,
    /// `turn/started` was sent.
    pub(crate) started: bool,
    /// Items completed so far.
    pub(crate) items: Vec<Value>,
    started_ms: u64,
    plan: TurnPlan,
    schema: Value,
    /// The id of the `turn/start`, until it is answered.
    reply_to: Option<Value>,
    inbox: Vec<Mail>,
    beats: VecDeque<(u64, Beat)>,
    /// Set if and only if the turn is in the agenda.
    slot: Option<Slot>,
    holding: bool,
    /// The open question: its id and what it is about.
    asked: Option<(Value, Approval)>,
}

impl Turn {
    /// The flags of the thread's status.
    pub(crate) fn flags(&self) -> Vec<&'static str> {
        if self.asked.is_some() { vec!["waitingOnApproval"] } else { Vec::new() }
    }

    /// The turn as the server shows it.
    pub(crate) fn object(&self, stage: &Stage, status: &str, items: Vec<Value>, view: &str, error: Value) -> Value {
        let started = self.started.then_some(self.started_ms / 1000);
        let ended = (status != "inProgress").then(|| stage.unix_ms());
        let mut turn = json!({
            "id": self.id, "items": items, "itemsView": view, "status": status, "error": error, "startedAt": started,
            "completedAt": ended.map(|ended| ended / 1000),
            "durationMs": ended.map(|ended| ended.saturating_sub(self.started_ms)),
        });
        if !stage.script.is_old() {
            turn["rootTurnId"] = Value::from(self.id.as_str());
        }
        turn
    }
}

impl Brain {
    pub(crate) fn start_turn(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let thread = self.thread_of(&call.params)?;
        let input = input_of(&call.params)?;
        let client_id = call.params.get("clientUserMessageId").cloned().unwrap_or_default();
        let schema = call.params.get("outputSchema").cloned().unwrap_or_default();
        if let Some(key) = self.threads.get(thread).and_then(|thread| thread.active) {
            return self.join(stage, call, key, Mail { input, client_id }, &schema);
        }

        let changed = self.threads.get_mut(thread).is_some_and(|thread| {
            thread.interrupted = None;
            apply_settings(&mut thread.settings, &call.params)
        });
        let prompt = text_of(&input);
        let plan = plan_for(stage, &prompt);
        let mut beats = VecDeque::new();
        let script = &stage.script;
        let reply = (script.reply_delay, Beat::Reply);
        let started_delay = script.started_delay;
        let early = script.early;
        match early {
            Early::None => {
                beats.push_back(reply);
                if changed {
                    beats.push_back((0, Beat::SettingsChanged));
                }
                beats.push_back((started_delay, Beat::TurnStarted));
            }
            Early::Started | Early::Completed => {
                if changed {
                    beats.push_back((0, Beat::SettingsChanged));
                }
                beats.push_back((started_delay, Beat::TurnStarted));
                if early == Early::Started {
                    beats.push_back(reply);
                }
            }
        }
        let message = self.user_message(stage, &input, &client_id);
        beats.push_back((0, Beat::Started(message.clone())));
        beats.push_back((0, Beat::Completed(message)));
        let text = plan.text.clone().unwrap_or_else(|| format!("You said: {prompt}"));
        self.model_beats(stage, thread, &plan, &text, &mut beats);
        if early == Early::Completed {
            beats.push_back((stage.script.reply_delay, Beat::Reply));
        }

        let id = stage.new_uuid();
        stage.latest_turn = Some(id.clone());
        let key = self.next_turn;
        self.next_turn += 1;
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.active = Some(key);
            if thread.preview.is_empty() {
                thread.preview.clone_from(&prompt);
            }
        }
        let turn = Turn {
            id,
            thread,
            started: false,
            items: Vec::new(),
            started_ms: stage.unix_ms(),
            plan,
            schema,
            reply_to: Some(call.id.clone()),
            inbox: Vec::new(),
            beats,
            slot: None,
            holding: false,
            asked: None,
        };
        self.turns.insert(key, turn);
        self.play(stage, key);
        Ok(None)
    }

    /// `turn/start` on a busy thread.
    fn join(&mut self, stage: &mut Stage, call: &Call, key: u64, mail: Mail, schema: &Value) -> Outcome {
        let Some(turn) = self.turns.get_mut(&key) else { return Err(Refusal::internal("the running turn is gone")) };
        let old = stage.script.is_old();
        if !old && turn.schema != *schema {
            return Err(Refusal::internal("failed to submit turn input: ActiveTurnOutputSchemaMismatch"));
        }
        turn.inbox.push(mail);
        let thread = turn.thread;
        // Versions before 0.154 give an id that nothing ever names again.
        let id = if old { stage.new_uuid() } else { turn.id.clone() };
        let mut shown = json!({
            "id": id, "items": [], "itemsView": "notLoaded", "status": "inProgress", "error": null, "startedAt": null,
            "completedAt": null, "durationMs": null,
        });
        if !old {
            shown["rootTurnId"] = Value::from(id);
        }
        stage.respond(&call.id, &json!({"turn": shown}));
        let changed =
            self.threads.get_mut(thread).is_some_and(|thread| apply_settings(&mut thread.settings, &call.params));
        if changed {
            self.notify_settings(stage, thread);
        }
        self.release(stage, key);
        Ok(None)
    }

    pub(crate) fn steer(&mut self, stage: &mut Stage, params: &Value) -> Outcome {
        let thread = self.thread_of(params)?;
        let expected = text_field(params, "expectedTurnId")?;
        let input = input_of(params)?;
        if expected.is_empty() {
            return Err(Refusal::invalid("expectedTurnId must not be empty"));
        }
        if input.as_array().is_some_and(Vec::is_empty) {
            return Err(Refusal::invalid("input must not be empty"));
        }
        let key = self.threads.get(thread).and_then(|thread| thread.active);
        let turn = key.and_then(|key| self.turns.get_mut(&key).map(|turn| (key, turn)));
        let Some((key, turn)) = turn else { return Err(Refusal::invalid("no active turn to steer")) };
        if turn.id != expected {
            let found = &turn.id;
            return Err(Refusal::invalid(format!("expected active turn id `{expected}` but found `{found}`")));
        }
        let id = turn.id.clone();
        turn.inbox.push(Mail { input, client_id: params.get("clientUserMessageId").cloned().unwrap_or_default() });
        self.release(stage, key);
        Ok(Some(json!({"turnId": id})))
    }

    pub(crate) fn interrupt(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let thread = self.thread_of(&call.params)?;
        let wanted = text_field(&call.params, "turnId")?;
        let none = || Err(Refusal::invalid("no active turn to interrupt"));
        let Some(state) = self.threads.get_mut(thread) else { return none() };
        let running = state.active.and_then(|key| self.turns.get(&key).map(|turn| (key, turn)));
        match running.filter(|(_, turn)| turn.started) {
            Some((_, turn)) if !wanted.is_empty() && wanted != turn.id => {
                let found = &turn.id;
                Err(Refusal::invalid(format!("expected active turn id {wanted} but found {found}")))
            }
            Some((key, _)) => {
                let waiting = mem::take(&mut state.unanswered);
                for id in waiting.iter().chain([&call.id]) {
                    stage.respond(id, &json!({}));
                }
                self.end_interrupted(stage, key);
                Ok(None)
            }
            // The real server says yes to this even when nothing runs.
            None if wanted.is_empty() => Ok(Some(json!({}))),
            None if running.is_none() && state.interrupted.as_deref() == Some(wanted) => {
                state.unanswered.push(call.id.clone());
                Ok(None)
            }
            None => none(),
        }
    }

    /// The client has answered a request of the server.
    pub(crate) fn handle_answer(&mut self, stage: &mut Stage, id: &Value, answer: &Value) {
        let found = self.turns.iter().find(|(_, turn)| turn.asked.as_ref().is_some_and(|(asked, _)| asked == id));
        let Some(key) = found.map(|(key, _)| *key) else { return };
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let Some((_, approval)) = turn.asked.take() else { return };
        let thread = turn.thread;
        self.notify_resolved(stage, thread, id);
        let decision = wire::lookup(answer, "result.decision");
        let mut item = approval.item;
        let decision = match decision {
            Some(Value::Object(members)) => members.keys().next().map_or("", String::as_str),
            Some(decision) => decision.as_str().unwrap_or(""),
            None => "",
        };
        let is_command = item["type"] == "commandExecution";
        match decision {
            "accept" | "acceptForSession" | "acceptWithExecpolicyAmendment" => {}
            "cancel" | "decline" => item["status"] = Value::from("declined"),
            // A bad answer: a command has failed, a file change counts as declined.
            _ => item["status"] = Value::from(if is_command { "failed" } else { "declined" }),
        }
        let cancelled = decision == "cancel";
        if cancelled {
            // A cancelled command is completed, a cancelled file change is not.
            if is_command {
                self.complete_item(stage, key, item);
            }
            self.end_interrupted(stage, key);
            return;
        }
        self.notify_status(stage, thread, &json!({"type": "active", "activeFlags": []}));
        if item["status"] == "inProgress" {
            // The work itself is the beats that follow.
        } else {
            self.complete_item(stage, key, item);
            if let Some(turn) = self.turns.get_mut(&key) {
                skip_work(&mut turn.beats);
            }
        }
        self.play(stage, key);
    }

    /// The moment of a turn's next beat.
    pub(crate) fn handle_timeout(&mut self, stage: &mut Stage, key: u64) {
        if let Some(turn) = self.turns.get_mut(&key) {
            turn.slot = None;
            // The delay of the first beat is what has just passed.
            if let Some((delay, _)) = turn.beats.front_mut() {
                *delay = 0;
            }
        }
        self.play(stage, key);
    }

    /// Plays beats up to the next delay.
    fn play(&mut self, stage: &mut Stage, key: u64) {
        while let Some(turn) = self.turns.get_mut(&key) {
            if turn.holding || turn.asked.is_some() || turn.slot.is_some() {
                return;
            }
            match turn.beats.front() {
                None => {
                    self.turns.remove(&key);
                    return;
                }
                Some((delay, _)) if *delay > 0 => {
                    turn.slot = Some(stage.schedule(*delay, Task::Turn(key)));
                    return;
                }
                Some(_) => {}
            }
            if let Some((_, beat)) = turn.beats.pop_front() {
                self.play_beat(stage, key, beat);
            }
        }
    }

    fn play_beat(&mut self, stage: &mut Stage, key: u64, beat: Beat) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let thread = turn.thread;
        match beat {
            Beat::Ask(approval) => {
                let id = Value::from(self.next_request);
                self.next_request += 1;
                let item_id = approval.item["id"].clone();
                let mut params = json!({
                    "threadId": self.threads.get(thread).map(|thread| thread.id.as_str()), "turnId": turn.id,
                    "itemId": item_id, "startedAtMs": stage.unix_ms(), "reason": null,
                });
                if approval.item["type"] == "commandExecution" {
                    params["kind"] = Value::from("command");
                    params["environmentId"] = Value::from("local");
                    params["reason"] = Value::from("May I run this outside the sandbox?");
                    params["command"] = approval.item["command"].clone();
                    params["cwd"] = approval.item["cwd"].clone();
                    params["commandActions"] = approval.item["commandActions"].clone();
                    params["proposedExecpolicyAmendment"] = Value::Null;
                    params["availableDecisions"] = json!(["accept", "cancel"]);
                } else {
                    params["grantRoot"] = Value::Null;
                }
                let method = approval.method;
                turn.asked = Some((id.clone(), approval));
                self.notify_status(stage, thread, &json!({"type": "active", "activeFlags": ["waitingOnApproval"]}));
                stage.write(wire::request(method, &id, &params).as_bytes());
            }
            Beat::Completed(item) => self.complete_item(stage, key, item),
            Beat::EndOfRequest => self.end_request(stage, key),
            Beat::Fail => self.end_failed(stage, key),
            Beat::Finish => self.end_completed(stage, key),
            Beat::Hold => turn.holding = turn.inbox.is_empty(),
            Beat::Notify(method, params) => self.notify_turn(stage, key, method, params),
            Beat::Reply => {
                // What has happened before an early reply does not show in it.
                let (was_started, reply_to) = (mem::replace(&mut turn.started, false), turn.reply_to.take());
                let result = json!({"turn": turn.object(stage, "inProgress", Vec::new(), "notLoaded", Value::Null)});
                turn.started = was_started;
                if let Some(id) = reply_to {
                    stage.respond(&id, &result);
                }
            }
            Beat::SettingsChanged => self.notify_settings(stage, thread),
            Beat::Started(item) => {
                let params = json!({"item": item, "startedAtMs": stage.unix_ms()});
                self.notify_turn(stage, key, "item/started", params);
            }
            Beat::TurnStarted => {
                turn.started = true;
                turn.started_ms = stage.unix_ms();
                let shown = turn.object(stage, "inProgress", Vec::new(), "notLoaded", Value::Null);
                self.notify_status(stage, thread, &json!({"type": "active", "activeFlags": []}));
                self.notify_about(stage, thread, "turn/started", shown);
            }
            Beat::Usage => {
                let turn_id = turn.id.clone();
                if let Some(thread) = self.threads.get_mut(thread) {
                    thread.model_requests += 1;
                }
                self.notify_usage(stage, thread, &turn_id);
                let limits = json!({
                    "limitId": "codex", "limitName": null, "normalModelSlug": null, "primary": null, "secondary": null,
                    "credits": null, "individualLimit": null, "spendControlReached": null, "planType": null,
                    "rateLimitReachedType": null,
                });
                self.notify(stage, "account/rateLimits/updated", &json!({"rateLimits": limits}));
            }
        }
    }

    /// Uses the inbox for another model request, or ends the turn.
    fn end_request(&mut self, stage: &mut Stage, key: u64) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let mails = mem::take(&mut turn.inbox);
        let rest = mem::take(&mut turn.beats);
        let mut beats = VecDeque::new();
        if mails.is_empty() {
            beats.push_back((0, Beat::Finish));
        } else {
            let mut said = Vec::new();
            for mail in &mails {
                let message = self.user_message(stage, &mail.input, &mail.client_id);
                beats.push_back((0, Beat::Started(message.clone())));
                beats.push_back((0, Beat::Completed(message)));
                said.push(text_of(&mail.input));
            }
            let said = said.join(" ");
            // The inbox may be answered by a plan of its own, but the turn's first plan is not played again.
            let plan = stage
                .script
                .turns
                .iter()
                .find(|plan| plan.when.as_ref().is_some_and(|part| said.contains(part.as_str())));
            let plan = plan.cloned().unwrap_or_default();
            let text = plan.text.clone().unwrap_or_else(|| format!("You also said: {said}"));
            let thread = self.turns.get(&key).map_or(0, |turn| turn.thread);
            self.model_beats(stage, thread, &plan, &text, &mut beats);
        }
        beats.extend(rest);
        if let Some(turn) = self.turns.get_mut(&key) {
            turn.beats = beats;
        }
    }

    /// What the model does: reasoning, a tool, an answer, and the end of its request.
    fn model_beats(
        &mut self,
        stage: &Stage,
        thread: usize,
        plan: &TurnPlan,
        text: &str,
        beats: &mut VecDeque<(u64, Beat)>,
    ) {
        let delta_delay = stage.script.delta_delay;
        if let Some(summary) = &plan.reasoning {
            let id = self.item_id("rs");
            let item = |summary: &[&str]| json!({"type": "reasoning", "id": id, "summary": summary, "content": []});
            beats.push_back((0, Beat::Started(item(&[]))));
            let part = json!({"itemId": id, "summaryIndex": 0});
            beats.push_back((0, Beat::Notify("item/reasoning/summaryPartAdded", part)));
            for delta in pieces(summary, None) {
                let params = json!({"itemId": id, "delta": delta, "summaryIndex": 0});
                beats.push_back((delta_delay, Beat::Notify("item/reasoning/summaryTextDelta", params)));
            }
            beats.push_back((0, Beat::Completed(item(&[summary.as_str()]))));
        }
        if let Some(command) = &plan.command {
            let cwd = self.threads.get(thread).and_then(|thread| thread.settings.get("cwd")).cloned();
            self.command_beats(command, &cwd.unwrap_or_default(), delta_delay, beats);
        }
        if let Some(change) = &plan.file_change {
            self.file_change_beats(change, beats);
        }
        if let Some(fail) = &plan.fail {
            for attempt in 1..=fail.retries {
                let error = json!({
                    "message": format!("Reconnecting... {attempt}/{}", fail.retries),
                    "codexErrorInfo": {"responseStreamDisconnected": {"httpStatusCode": null}},
                    "additionalDetails": fail.message, "misalignment": null,
                });
                beats.push_back((delta_delay, Beat::Notify("error", json!({"error": error, "willRetry": true}))));
            }
            beats.push_back((delta_delay, Beat::Fail));
            return;
        }
        let id = self.item_id("msg");
        beats.push_back((0, Beat::Started(agent_message(&id, "", plan.phase.as_deref()))));
        for delta in pieces(text, plan.deltas) {
            let params = json!({"itemId": id, "delta": delta});
            beats.push_back((delta_delay, Beat::Notify("item/agentMessage/delta", params)));
        }
        if plan.hold {
            beats.push_back((0, Beat::Hold));
        }
        // The model takes a moment to see a steer; what comes in this moment is used with it.
        let pause = if plan.hold { delta_delay.max(1) } else { 0 };
        beats.push_back((pause, Beat::Completed(agent_message(&id, text, plan.phase.as_deref()))));
        beats.push_back((0, Beat::Usage));
        beats.push_back((0, Beat::EndOfRequest));
    }

    fn command_beats(&mut self, plan: &CommandPlan, cwd: &Value, delay: u64, beats: &mut VecDeque<(u64, Beat)>) {
        let id = self.item_id("call");
        let quoted = plan.command.replace('\'', r"'\''");
        let mut item = json!({
            "type": "commandExecution", "id": id, "pluginId": null, "scriptPath": null,
            "command": format!("/bin/bash -lc '{quoted}'"), "cwd": cwd, "processId": null, "source": "agent",
            "status": "inProgress", "commandActions": [{"type": "unknown", "command": plan.command}],
            "aggregatedOutput": null, "exitCode": null, "durationMs": null,
        });
        beats.push_back((0, Beat::Started(item.clone())));
        if plan.approval {
            let method = "item/commandExecution/requestApproval";
            beats.push_back((0, Beat::Ask(Approval { method, item: item.clone() })));
        }
        for line in plan.output.split_inclusive('\n') {
            let params = json!({"itemId": id, "delta": line});
            beats.push_back((delay, Beat::Notify("item/commandExecution/outputDelta", params)));
        }
        item["status"] = Value::from(if plan.exit_code == 0 { "completed" } else { "failed" });
        item["processId"] = Value::from("96825");
        item["source"] = Value::from("unifiedExecStartup");
        item["aggregatedOutput"] = if plan.output.is_empty() { Value::Null } else { Value::from(plan.output.as_str()) };
        item["exitCode"] = Value::from(plan.exit_code);
        item["durationMs"] = Value::from(0);
        beats.push_back((0, Beat::Completed(item)));
        beats.push_back((0, Beat::Usage));
    }

    fn file_change_beats(&mut self, plan: &FileChangePlan, beats: &mut VecDeque<(u64, Beat)>) {
        let id = self.item_id("call");
        let mut item = json!({
            "type": "fileChange", "id": id, "status": "inProgress",
            "changes": [{"path": plan.path, "kind": {"type": "add"}, "diff": plan.content}],
        });
        beats.push_back((0, Beat::Started(item.clone())));
        if plan.approval {
            let method = "item/fileChange/requestApproval";
            beats.push_back((0, Beat::Ask(Approval { method, item: item.clone() })));
        }
        item["status"] = Value::from("completed");
        beats.push_back((0, Beat::Completed(item)));
        let lines: Vec<String> = plan.content.lines().map(|line| format!("+{line}\n")).collect();
        let name = plan.path.rsplit('/').next().unwrap_or(&plan.path);
        let diff = format!(
            "diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{} @@\n{}",
            lines.len(),
            lines.concat()
        );
        beats.push_back((0, Beat::Notify("turn/diff/updated", json!({"diff": diff}))));
        beats.push_back((0, Beat::Usage));
    }

    fn complete_item(&mut self, stage: &mut Stage, key: u64, item: Value) {
        if let Some(turn) = self.turns.get_mut(&key) {
            turn.items.push(item.clone());
        }
        let params = json!({"item": item, "completedAtMs": stage.unix_ms()});
        self.notify_turn(stage, key, "item/completed", params);
    }

    // The three ends.

    fn end_completed(&mut self, stage: &mut Stage, key: u64) {
        let Some(turn) = self.turns.get(&key) else { return };
        let last = turn.items.iter().rev().find(|item| item["type"] == "agentMessage").cloned();
        let (items, view) = match last.filter(|_| !stage.script.is_old()) {
            Some(message) => (vec![message], "summary"),
            None => (Vec::new(), "notLoaded"),
        };
        let shown = turn.object(stage, "completed", items, view, Value::Null);
        self.end(stage, key, shown, &json!({"type": "idle"}), None);
    }

    fn end_interrupted(&mut self, stage: &mut Stage, key: u64) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if let Some(slot) = turn.slot.take() {
            stage.cancel(slot);
        }
        turn.holding = false;
        // An early turn can be interrupted before its own start is answered; that answer still comes.
        turn.beats.retain(|(_, beat)| matches!(beat, Beat::Reply));
        let asked = turn.asked.take();
        let thread = turn.thread;
        let shown = turn.object(stage, "interrupted", Vec::new(), "notLoaded", Value::Null);
        let id = turn.id.clone();
        self.end(stage, key, shown, &json!({"type": "idle"}), None);
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.interrupted = Some(id);
        }
        if let Some((id, _)) = asked {
            self.notify_resolved(stage, thread, &id);
        }
        self.play(stage, key);
    }

    fn end_failed(&mut self, stage: &mut Stage, key: u64) {
        let Some(turn) = self.turns.get(&key) else { return };
        let fail = turn.plan.fail.clone().unwrap_or_default();
        let error = json!({
            "message": fail.message, "codexErrorInfo": fail.info, "additionalDetails": null, "misalignment": null,
        });
        let shown = turn.object(stage, "failed", Vec::new(), "notLoaded", error.clone());
        self.end(stage, key, shown, &json!({"type": "systemError"}), Some(error));
    }

    fn end(&mut self, stage: &mut Stage, key: u64, shown: Value, status: &Value, error: Option<Value>) {
        let Some(turn) = self.turns.get(&key) else { return };
        let thread = turn.thread;
        let mut stored = shown.clone();
        stored["items"] = Value::from(turn.items.clone());
        stored["itemsView"] = Value::from("full");
        let now = stage.unix_s();
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.turns.push(stored);
            thread.active = None;
            thread.updated_s = now;
        }
        let failed = error.is_some();
        if !failed {
            self.notify_read_state(stage, thread);
        }
        self.notify_status(stage, thread, status);
        if let Some(error) = error {
            self.notify_turn(stage, key, "error", json!({"error": error, "willRetry": false}));
            self.notify_read_state(stage, thread);
        }
        self.notify_about(stage, thread, "turn/completed", shown);
    }

    // Notifications.

    /// A notification with the ids of a turn.
    fn notify_turn(&self, stage: &mut Stage, key: u64, method: &str, mut params: Value) {
        let Some(turn) = self.turns.get(&key) else { return };
        let Some(thread) = self.threads.get(turn.thread) else { return };
        params["threadId"] = Value::from(thread.id.as_str());
        params["turnId"] = Value::from(turn.id.as_str());
        self.notify_subscriber(stage, turn.thread, method, &params);
    }

    /// A notification that holds a turn.
    fn notify_about(&self, stage: &mut Stage, thread: usize, method: &str, turn: Value) {
        let id = self.threads.get(thread).map(|thread| thread.id.as_str());
        self.notify_subscriber(stage, thread, method, &json!({"threadId": id, "turn": turn}));
    }

    fn notify_resolved(&self, stage: &mut Stage, thread: usize, request: &Value) {
        let id = self.threads.get(thread).map(|thread| thread.id.as_str());
        let params = json!({"threadId": id, "requestId": request});
        self.notify_subscriber(stage, thread, "serverRequest/resolved", &params);
    }

    /// It names the oldest turn of the thread, because this client never marks anything as read.
    fn notify_read_state(&self, stage: &mut Stage, index: usize) {
        let Some(thread) = self.threads.get(index).filter(|_| self.experimental) else { return };
        if thread.ephemeral || stage.script.is_old() {
            return;
        }
        let first = thread.turns.first().and_then(|turn| turn.get("id"));
        let unread = json!({"firstUnread": {"type": "turn", "turnId": first}, "revision": stage.new_uuid()});
        let params = json!({"threadId": thread.id, "readState": unread});
        self.notify_subscriber(stage, index, "thread/readState/changed", &params);
    }

    /// Ends the hold of a turn, if it holds. Nothing is written at once: a reply can come before what it causes.
    fn release(&mut self, stage: &mut Stage, key: u64) {
        if let Some(turn) = self.turns.get_mut(&key) {
            turn.holding = false;
        }
        self.play(stage, key);
    }

    fn user_message(&mut self, stage: &mut Stage, input: &Value, client_id: &Value) -> Value {
        let mut content = input.clone();
        for part in content.as_array_mut().into_iter().flatten() {
            if part["type"] == "text" && part.get("text_elements").is_none() {
                part["text_elements"] = json!([]);
            }
        }
        json!({"type": "userMessage", "id": stage.new_uuid(), "clientId": client_id, "content": content})
    }

    /// An id as the model gives it.
    fn item_id(&mut self, kind: &str) -> String {
        self.next_item += 1;
        format!("{kind}_{}", self.next_item)
    }
}

/// The plan for a prompt: the first of the script that fits, or the empty one.
fn plan_for(stage: &Stage, prompt: &str) -> TurnPlan {
    let fits = |plan: &&TurnPlan| plan.when.as_ref().is_none_or(|part| prompt.contains(part.as_str()));
    stage.script.turns.iter().find(fits).cloned().unwrap_or_default()
}

fn input_of(params: &Value) -> Result<Value, Refusal> {
    match params.get("input") {
        Some(input @ Value::Array(_)) => Ok(input.clone()),
        None | Some(Value::Null) => Err(Refusal::invalid("Invalid request: missing field `input`")),
        Some(_) => Err(Refusal::invalid("Invalid request: invalid type for `input`, expected a sequence")),
    }
}

/// The text parts of an input.
fn text_of(input: &Value) -> String {
    let parts = input.as_array().into_iter().flatten();
    let texts: Vec<&str> = parts.filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
    texts.join("\n")
}

fn agent_message(id: &str, text: &str, phase: Option<&str>) -> Value {
    json!({
        "type": "agentMessage", "id": id, "text": text, "phase": phase, "memoryCitation": null, "delivery": null,
        "questions": null,
    })
}

/// Cuts a text between characters, into so many pieces or into pieces of six characters.
fn pieces(text: &str, count: Option<usize>) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let Some(count) = count else { return characters.chunks(6).map(|piece| piece.iter().collect()).collect() };
    // With more pieces than characters the last ones would be empty; the real server sends no empty delta.
    let count = count.min(characters.len());
    let bound = |index: usize| index * characters.len() / count.max(1);
    (0..count)
        .map(|index| characters.get(bound(index)..bound(index + 1)).unwrap_or_default().iter().collect())
        .collect()
}

/// Drops the beats of the work that the client did not allow, up to and including its usage, which is then played alone.
fn skip_work(beats: &mut VecDeque<(u64, Beat)>) {
    while let Some((_, beat)) = beats.front() {
        if matches!(beat, Beat::Usage) {
            return;
        }
        beats.pop_front();
    }
}
