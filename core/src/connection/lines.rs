//! What a line of the server is, and who gets it; and the lines that answer the server.

use super::{
    Connection, DIAGNOSTIC_HEAD, Event, Prepared, RequestKey,
    requests::{self, Answered, Lane, Purpose},
};
use crate::{
    envelope::{Envelope, Message, NotAMessage, RpcId},
    error::{CallError, Fault, RpcError},
    frame::Frame,
    json::Json,
    time::Time,
    turn::{Diagnostic, DiagnosticKind, Policy, RawEvent},
};
use alloc::{string::String, vec::Vec};
use serde::Serialize;

impl Connection {
    pub(super) fn handle_frame(&mut self, now: Time, frame: Frame<'_>) {
        if self.link.closed().is_some() {
            return;
        }
        self.counters.lines += 1;
        match frame {
            Frame::Line(line) => self.handle_line(now, line, DiagnosticKind::Malformed),
            Frame::Unfinished(line) => self.handle_line(now, line, DiagnosticKind::Truncated),
            Frame::Oversized { head, length } => {
                self.counters.oversized += 1;
                self.diagnose(DiagnosticKind::Oversized, head, length);
                if let Some((method, id)) = Envelope::request_in_head(head) {
                    self.refuse_oversized(id, method);
                }
                if let Some(RpcId::Integer(id)) = Envelope::response_id_in_head(head) {
                    let limit = self.config.limits.max_line;
                    self.handle_response(now, id, Err(Fault::TooLarge { length, limit }), head);
                }
            }
        }
    }

    pub(super) fn handle_line(&mut self, now: Time, line: &[u8], if_malformed: DiagnosticKind) {
        // It lends out what it reads, so it stands apart meanwhile.
        let mut reader = self.reader.take().unwrap_or_default();
        if reader.piece(line).is_some_and(|(route, text)| self.handle_piece(route, text)) {
            self.reader = Some(reader);
            return;
        }
        let mut route = None;
        match reader.parse(line) {
            Ok(Envelope { message: Message::Notification { method, params, keys }, emitted_at_ms }) => {
                self.handle_notification(now, line, &method, params, &keys, emitted_at_ms);
                route = self.route_of(&method, &keys);
            }
            Ok(envelope) => self.handle_envelope(now, line, envelope),
            Err(NotAMessage::Blank) => {}
            Err(NotAMessage::Noise) => {
                if !self.handle_within_noise(now, line) {
                    self.note_noise(line);
                }
            }
            Err(NotAMessage::Malformed | NotAMessage::Shapeless) => {
                if self.config.strict || !self.handle_within_noise(now, line) {
                    self.note_malformed(now, line, if_malformed);
                }
            }
        }
        if let Some(route) = route {
            reader.note(line, route);
        }
        self.reader = Some(reader);
    }

    pub(super) fn handle_response(&mut self, now: Time, id: i64, outcome: Result<Json, Fault>, line: &[u8]) {
        let key = RequestKey(u64::try_from(id).unwrap_or(0));
        let outcome = self.note_answer(key, outcome);
        self.handle_after(now, key, &outcome);
        let answered = self.requests.answer(key, outcome);
        let kind = match answered {
            Answered::Late => {
                self.counters.late += 1;
                DiagnosticKind::LateResponse
            }
            Answered::Duplicate => {
                self.counters.duplicate += 1;
                DiagnosticKind::DuplicateResponse
            }
            Answered::Unknown => {
                self.counters.unknown_responses += 1;
                DiagnosticKind::UnknownResponse
            }
            answered => return self.handle_answered(now, key, answered),
        };
        self.diagnose(kind, line, line.len() as u64);
    }

    pub(super) fn settle_request(&mut self, now: Time, key: RequestKey, outcome: Result<Json, Fault>) {
        if self.afters.remove(&key).is_some() {
            self.drop_strays();
        }
        let answered = self.requests.settle(key, outcome);
        self.handle_answered(now, key, answered);
    }

    pub(super) fn tell_answered(&mut self, key: RequestKey, answered: &Answered) {
        if matches!(answered, Answered::Ready) {
            self.events.push_back(Event::Response(key));
        }
    }

    pub(super) fn handle_answered(&mut self, now: Time, key: RequestKey, answered: Answered) {
        self.tell_answered(key, &answered);
        match answered {
            Answered::Own(Purpose::Initialize, _, outcome) => self.handle_initialized(now, outcome),
            Answered::Own(Purpose::StartTurn(turn), method, outcome) => {
                self.handle_turn_started(now, turn, method, outcome);
            }
            Answered::Own(Purpose::Interrupt(turn), method, outcome) => {
                self.handle_interrupted(now, turn, outcome.map_err(|fault| CallError::new(method, fault)));
            }
            Answered::Own(Purpose::RestoreSandbox, _, outcome) => self.handle_restored(key, &outcome),
            Answered::Own(Purpose::Call | Purpose::Abandoned, ..)
            | Answered::Ready
            | Answered::Duplicate
            | Answered::Late
            | Answered::Unknown => {}
        }
    }

    pub(super) fn enter_as(
        &mut self,
        now: Time,
        mut request: Prepared,
        purpose: Purpose,
        lane: Lane,
    ) -> Result<RequestKey, CallError> {
        if let Some(fault) = self.refusal() {
            return Err(CallError::new(request.method, fault));
        }
        self.check(&request)?;
        let limit = self.config.limits.max_queued_requests;
        if lane == Lane::Normal && self.requests.queued() >= limit {
            return Err(CallError::new(request.method, Fault::QueueFull { limit }));
        }
        let note = if purpose == Purpose::Call { self.note_of_request(&mut request) } else { None };
        let (within, needs) = (self.within(), request.take_needs());
        let Prepared { method, params, .. } = request;
        let entered = self.requests.enter(now, method.clone(), &params, purpose, lane, within);
        let key = entered.map_err(|fault| CallError::new(method, fault))?;
        self.note_needs(key, needs);
        if let Some(note) = note {
            self.requests.keep_note(key, note);
        }
        Ok(key)
    }

    pub(super) fn within(&self) -> (core::time::Duration, core::time::Duration) {
        (self.config.timeouts.call, self.config.timeouts.reply)
    }

    /// How many requests may be in flight now: none but the handshake before it is done.
    pub(super) fn window(&self) -> usize {
        if self.is_ready() { self.config.limits.max_in_flight } else { 0 }
    }

    /// How many requests, urgent ones included, may be in flight: still fewer than a server drops.
    pub(super) fn urgent_window(&self) -> usize {
        self.config.limits.max_in_flight.saturating_mul(2).max(1)
    }

    pub(super) fn policy(&self) -> Policy {
        Policy { merge_after: self.config.limits.merge_after, max_bytes: self.config.limits.max_unread_bytes }
    }

    pub(super) fn answer<T: Serialize>(&mut self, id: &RpcId, outcome: &Result<T, RpcError>) {
        #[derive(Serialize)]
        struct Line<'a, T> {
            id: &'a RpcId,
            #[serde(skip_serializing_if = "Option::is_none")]
            result: Option<&'a T>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<Failure<'a>>,
        }
        #[derive(Serialize)]
        struct Failure<'a> {
            code: i64,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a Json>,
        }
        let line = match outcome {
            Ok(result) => Line { id, result: Some(result), error: None },
            Err(RpcError { code, message, data }) => {
                Line { id, result: None, error: Some(Failure { code: *code, message, data: data.as_ref() }) }
            }
        };
        // Nothing here can fail to encode; if it did, the server would wait for the turn's end.
        if let Ok(line) = serde_json::to_vec(&line) {
            self.push_answer(line);
        }
    }

    pub(super) fn push_answer(&mut self, mut line: Vec<u8>) {
        if self.link.is_over() {
            return;
        }
        requests::end_line(&mut line);
        self.answers_bytes += line.len();
        self.answers.push_back(line);
    }

    pub(super) fn diagnose(&mut self, kind: DiagnosticKind, line: &[u8], length: u64) {
        self.diagnosed += 1;
        let head = String::from_utf8_lossy(line.get(..DIAGNOSTIC_HEAD.min(line.len())).unwrap_or_default());
        let diagnostic = Diagnostic { kind, head: head.into(), length };
        if self.diagnostics.len() >= self.config.limits.max_diagnostics {
            self.diagnostics.pop_front();
        }
        self.diagnostics.push_back(diagnostic.clone());
        let policy = self.policy();
        let events = &mut self.events;
        self.log.push(RawEvent::Diagnostic(diagnostic), policy, |key| events.push_back(Event::Readable(key)));
    }
}
