//! What the default brain does with a thread as a whole: put it away, copy it, change its settings, give it a goal.

use serde_json::{Value, json};

use super::brain::{Brain, Outcome, Refusal, apply_settings, new_thread, text_field};
use super::stage::Stage;
use super::wire::Call;

impl Brain {
    /// A request about a thread as a whole; `None` if it is none that is played.
    pub(crate) fn thread_call(&mut self, stage: &mut Stage, call: &Call) -> Option<Outcome> {
        Some(match call.method.as_str() {
            "thread/archive" => self.put_away(stage, call, true),
            "thread/delete" => self.put_away(stage, call, false),
            "thread/fork" => self.fork_thread(stage, call),
            "thread/goal/clear" | "thread/goal/get" | "thread/goal/set" => self.goal(stage, call),
            "thread/settings/update" => self.update_settings(stage, call),
            "thread/unarchive" => self.unarchive(stage, call),
            _ => return None,
        })
    }

    /// The thread of a request that needs a stored one.
    pub(crate) fn stored(&self, id: &str) -> Result<usize, Refusal> {
        let stored = |index: &usize| {
            let thread = self.threads.get(*index);
            thread.is_some_and(|thread| !thread.archived && thread.is_stored())
        };
        let index = self.find_thread(id);
        if index.and_then(|index| self.threads.get(index)).is_some_and(|thread| thread.archived) {
            return Err(Refusal::invalid(format!(
                "session {id} is archived. Run `codex unarchive {id}` to unarchive it first."
            )));
        }
        index.filter(stored).ok_or_else(|| no_rollout(id))
    }

    fn put_away(&mut self, stage: &mut Stage, call: &Call, archive: bool) -> Outcome {
        let id = text_field(&call.params, "threadId")?.to_owned();
        let index = self.stored(&id).map_err(|_| no_rollout(&id))?;
        if let Some(thread) = self.threads.get_mut(index) {
            thread.loaded = false;
            thread.subscribed = false;
            thread.archived = archive;
        }
        stage.respond(&call.id, &json!({}));
        self.notify_status(stage, index, &json!({"type": "notLoaded"}));
        let method = if archive { "thread/archived" } else { "thread/deleted" };
        self.notify(stage, method, &json!({"threadId": id}));
        if let Some(thread) = self.threads.get_mut(index).filter(|_| !archive) {
            // Turns name threads by their place, so it stays, under a name that nobody has.
            thread.id.clear();
        }
        Ok(None)
    }

    fn unarchive(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let id = text_field(&call.params, "threadId")?.to_owned();
        let index = self.find_thread(&id);
        let Some(thread) = index.and_then(|index| self.threads.get_mut(index)).filter(|thread| thread.archived) else {
            return Err(Refusal::invalid(format!("no archived rollout found for thread id {id}")));
        };
        thread.archived = false;
        let thread = self.thread_object(stage, index.unwrap_or_default(), false);
        stage.respond(&call.id, &json!({"thread": thread}));
        self.notify(stage, "thread/unarchived", &json!({"threadId": id}));
        Ok(None)
    }

    fn fork_thread(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let id = text_field(&call.params, "threadId")?.to_owned();
        let source = self.stored(&id)?;
        let mut turns = self.threads.get(source).map(|thread| thread.turns.clone()).unwrap_or_default();
        let running = self.threads.get(source).and_then(|thread| thread.active).and_then(|key| self.turns.get(&key));
        if let Some(turn) = running {
            turns.push(turn.object(stage, "interrupted", turn.items.clone(), "full", Value::Null));
        }
        if let Some(last) = call.params.get("lastTurnId").and_then(Value::as_str) {
            let Some(place) = turns.iter().position(|turn| turn["id"] == last) else {
                return Err(Refusal::invalid(format!("turn not found: {last}")));
            };
            turns.truncate(place + 1);
        }
        let mut thread = new_thread(stage.new_uuid(), &stage.script, stage.unix_s(), &Value::Null);
        if let Some(source) = self.threads.get(source) {
            thread.settings.clone_from(&source.settings);
            thread.preview.clone_from(&source.preview);
        }
        apply_settings(&mut thread.settings, &call.params);
        thread.turns = turns;
        thread.forked_from = Value::from(id);
        thread.loaded = true;
        thread.subscribed = true;
        self.threads.push(thread);
        let index = self.threads.len() - 1;
        let with_turns = call.params.get("excludeTurns") != Some(&Value::Bool(true));
        stage.respond(&call.id, &self.thread_result(stage, index, with_turns));
        let started = json!({"thread": self.thread_object(stage, index, false)});
        self.notify(stage, "thread/started", &started);
        Ok(None)
    }

    fn update_settings(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let index = self.thread_of(&call.params)?;
        let changed =
            self.threads.get_mut(index).is_some_and(|thread| apply_settings(&mut thread.settings, &call.params));
        stage.respond(&call.id, &json!({}));
        if changed {
            self.notify_settings(stage, index);
        }
        Ok(None)
    }

    /// A goal is kept and told of. No turn follows from it: that is for a rule.
    fn goal(&mut self, stage: &mut Stage, call: &Call) -> Outcome {
        let id = text_field(&call.params, "threadId")?.to_owned();
        let index = self.thread_of(&call.params)?;
        let now = stage.unix_s();
        let Some(thread) = self.threads.get_mut(index) else { return Err(no_rollout(&id)) };
        match call.method.as_str() {
            "thread/goal/get" => Ok(Some(json!({"goal": thread.goal}))),
            "thread/goal/clear" => {
                let had = !std::mem::take(&mut thread.goal).is_null();
                stage.respond(&call.id, &json!({"cleared": had}));
                self.notify_subscriber(stage, index, "thread/goal/cleared", &json!({"threadId": id}));
                Ok(None)
            }
            _ => {
                let given = |name: &str| call.params.get(name).filter(|value| !value.is_null()).cloned();
                if thread.goal.is_null() && given("objective").is_none() {
                    return Err(Refusal::invalid(format!("cannot update goal for thread {id}: no goal exists")));
                }
                if thread.goal.is_null() {
                    thread.goal = json!({
                        "threadId": id, "status": "active", "tokenBudget": null, "tokensUsed": 0,
                        "timeUsedSeconds": 0, "createdAt": now, "updatedAt": now,
                    });
                }
                for name in ["objective", "status", "tokenBudget"] {
                    if let Some(value) = given(name) {
                        thread.goal[name] = value;
                    }
                }
                let goal = thread.goal.clone();
                stage.respond(&call.id, &json!({"goal": goal}));
                let updated = json!({"threadId": id, "turnId": null, "goal": goal});
                self.notify_subscriber(stage, index, "thread/goal/updated", &updated);
                Ok(None)
            }
        }
    }

    /// The latest turn alone, as a page.
    pub(crate) fn latest_turn_page(&self, stage: &Stage, index: usize) -> Value {
        let object = self.thread_object(stage, index, true);
        let latest = object["turns"].as_array().and_then(|turns| turns.last()).cloned();
        json!({"data": latest.into_iter().collect::<Vec<_>>(), "nextCursor": null, "backwardsCursor": null})
    }
}

fn no_rollout(id: &str) -> Refusal {
    Refusal::invalid(format!("no rollout found for thread id {id}"))
}
