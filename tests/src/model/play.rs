//! Acts a reply out on one connection: events in order, pauses, gates, cuts.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Outcome;
use super::gate::Gate;
use super::http;
use super::reply::{CHUNK_CHARS, Kind, Message, Piece, Reply, Step, Usage};

/// How often a waiting stream looks whether the model stops or the peer has gone.
const SLICE: Duration = Duration::from_millis(10);

/// Why the stream ends before its script does.
struct Early(Outcome);

impl From<io::Error> for Early {
    /// A peer that closes is the only thing that makes a local socket fail.
    fn from(_: io::Error) -> Self {
        Self(Outcome::PeerGone)
    }
}

pub(super) struct Player<'a> {
    pub(super) stream: &'a mut TcpStream,
    pub(super) stop: &'a AtomicBool,
    /// The number of the request: makes the ids of items and calls unique within one model.
    pub(super) number: usize,
}

impl Player<'_> {
    pub(super) fn play(mut self, reply: &Reply) -> Outcome {
        let result = match &reply.kind {
            Kind::Http { status, body } => http::write_response(self.stream, *status, &reply.headers, body)
                .map(|()| Outcome::Answered)
                .map_err(Early::from),
            Kind::Stream { steps, usage } => self.stream_out(&reply.headers, steps, *usage),
        };
        match result {
            Ok(outcome) | Err(Early(outcome)) => outcome,
        }
    }

    fn stream_out(&mut self, headers: &[(String, String)], steps: &[Step], usage: Usage) -> Result<Outcome, Early> {
        http::write_stream_head(self.stream, headers)?;
        let id = format!("resp_{}", self.number);
        self.event(&json!({"type": "response.created", "response": {"id": id}}))?;
        let mut index = 0;
        for step in steps {
            match step {
                Step::CustomCall { name, input } => {
                    let item = json!({"type": "custom_tool_call", "id": self.id("ctc", index),
                        "call_id": self.id("call", index), "name": name, "input": input, "status": "completed"});
                    self.whole_item(index, &item, "input")?;
                    index += 1;
                }
                Step::Cut => return Ok(Outcome::Cut),
                Step::Event(event) => self.event(event)?,
                Step::Failed { code, message } => {
                    let error = json!({"code": code, "message": message});
                    let response = json!({"id": id, "status": "failed", "error": error});
                    return self.end(&json!({"type": "response.failed", "response": response}));
                }
                Step::FunctionCall { name, namespace, arguments } => {
                    let mut item = json!({"type": "function_call", "id": self.id("fc", index),
                        "call_id": self.id("call", index), "name": name, "arguments": arguments});
                    if let (Some(namespace), Some(members)) = (namespace, item.as_object_mut()) {
                        members.insert("namespace".to_owned(), json!(namespace));
                    }
                    self.whole_item(index, &item, "arguments")?;
                    index += 1;
                }
                Step::Hold(gate) => self.hold(gate)?,
                Step::Incomplete { reason } => {
                    let details = json!({"reason": reason});
                    let response = json!({"id": id, "status": "incomplete", "incomplete_details": details,
                        "usage": usage.to_json()});
                    return self.end(&json!({"type": "response.incomplete", "response": response}));
                }
                Step::Message(message) => {
                    self.message(index, message)?;
                    index += 1;
                }
                Step::Pause(time) => self.pause(*time)?,
                Step::Reasoning(summary) => {
                    self.reasoning(index, summary)?;
                    index += 1;
                }
            }
        }
        let response = json!({"id": id, "status": "completed", "usage": usage.to_json()});
        self.end(&json!({"type": "response.completed", "response": response}))
    }

    fn message(&mut self, index: usize, message: &Message) -> Result<(), Early> {
        let id = self.id("msg", index);
        let mut item =
            json!({"type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": []});
        if let (Some(phase), Some(members)) = (message.phase, item.as_object_mut()) {
            members.insert("phase".to_owned(), json!(phase.as_str()));
        }
        self.event(&json!({"type": "response.output_item.added", "output_index": index, "item": item}))?;
        for piece in &message.pieces {
            match piece {
                Piece::Cut => return Err(Early(Outcome::Cut)),
                Piece::Hold(gate) => self.hold(gate)?,
                Piece::Pause(time) => self.pause(*time)?,
                Piece::Text(text) => {
                    for delta in chunks(text, message.chunk_chars) {
                        self.pause(message.delta_delay)?;
                        self.event(&json!({"type": "response.output_text.delta", "item_id": id,
                            "output_index": index, "content_index": 0, "delta": delta}))?;
                    }
                }
            }
        }
        if let Some(members) = item.as_object_mut() {
            members.insert("status".to_owned(), json!("completed"));
            let part = json!({"type": "output_text", "text": message.full_text(), "annotations": []});
            members.insert("content".to_owned(), json!([part]));
        }
        self.event(&json!({"type": "response.output_item.done", "output_index": index, "item": item}))
    }

    fn reasoning(&mut self, index: usize, summary: &str) -> Result<(), Early> {
        let id = self.id("rs", index);
        let item = json!({"type": "reasoning", "id": id, "summary": []});
        self.event(&json!({"type": "response.output_item.added", "output_index": index, "item": item}))?;
        self.event(&json!({"type": "response.reasoning_summary_part.added", "item_id": id,
            "output_index": index, "summary_index": 0, "part": {"type": "summary_text", "text": ""}}))?;
        for delta in chunks(summary, CHUNK_CHARS) {
            self.event(&json!({"type": "response.reasoning_summary_text.delta", "item_id": id,
                "output_index": index, "summary_index": 0, "delta": delta}))?;
        }
        let item = json!({"type": "reasoning", "id": id, "summary": [{"type": "summary_text", "text": summary}]});
        self.event(&json!({"type": "response.output_item.done", "output_index": index, "item": item}))
    }

    /// An item without deltas: announced with `member` still empty, then whole.
    fn whole_item(&mut self, index: usize, item: &Value, member: &str) -> Result<(), Early> {
        let mut announced = item.clone();
        if let Some(members) = announced.as_object_mut() {
            members.insert(member.to_owned(), json!(""));
        }
        self.event(&json!({"type": "response.output_item.added", "output_index": index, "item": announced}))?;
        self.event(&json!({"type": "response.output_item.done", "output_index": index, "item": item}))
    }

    fn end(&mut self, event: &Value) -> Result<Outcome, Early> {
        self.event(event)?;
        http::write_last_chunk(self.stream)?;
        Ok(Outcome::Answered)
    }

    fn event(&mut self, event: &Value) -> Result<(), Early> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Early(Outcome::Stopped));
        }
        let name = event.get("type").and_then(Value::as_str).unwrap_or("message");
        http::write_chunk(self.stream, &format!("event: {name}\ndata: {event}\n\n"))?;
        Ok(())
    }

    fn hold(&self, gate: &Gate) -> Result<(), Early> {
        gate.arrive();
        let deadline = Instant::now() + gate.bound();
        while !gate.wait_open(SLICE) {
            self.check()?;
            if Instant::now() >= deadline {
                return Err(Early(Outcome::GateExpired));
            }
        }
        Ok(())
    }

    fn pause(&self, time: Duration) -> Result<(), Early> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
            self.check()?;
        }
    }

    /// Fails if there is nobody left to write for.
    fn check(&self) -> Result<(), Early> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Early(Outcome::Stopped));
        }
        if http::is_peer_gone(self.stream) {
            return Err(Early(Outcome::PeerGone));
        }
        Ok(())
    }

    fn id(&self, prefix: &str, index: usize) -> String {
        format!("{prefix}_{}_{index}", self.number)
    }
}

/// Cuts a text into pieces of `size` characters; an empty text has none.
fn chunks(text: &str, size: usize) -> impl Iterator<Item = String> {
    let mut chars = text.chars();
    std::iter::from_fn(move || {
        let piece: String = chars.by_ref().take(size).collect();
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::chunks;

    #[test]
    fn chunks_cut_between_characters_and_lose_none() {
        let pieces: Vec<String> = chunks("größer", 4).collect();
        assert_eq!(pieces, ["größ", "er"]);
        assert_eq!(chunks("", 4).count(), 0);
    }
}
