//! What another server's schema has that the checked-in one has not, and the other way round.
//!
//! Drift is normal: servers gain members, words and methods every week, and the types are made to stand that. So the
//! report lists everything and fails on one thing only: that something is gone, or has another type, without which a
//! client built on these types cannot work.

use crate::{
    model::{Member, Method, Model, Shape},
    names,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// The outcome of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) new: Vec<String>,
    pub(crate) changed: Vec<String>,
    pub(crate) removed: Vec<String>,
    /// Those of the above that break what is required.
    pub(crate) broken: Vec<String>,
}

/// Methods that a client cannot do without.
const METHODS: &[&str] = &[
    "request initialize",
    "request thread/fork",
    "request thread/list",
    "request thread/read",
    "request thread/resume",
    "request thread/start",
    "request turn/interrupt",
    "request turn/start",
    "request turn/steer",
    "notification error",
    "notification item/agentMessage/delta",
    "notification item/completed",
    "notification item/started",
    "notification serverRequest/resolved",
    "notification thread/started",
    "notification thread/status/changed",
    "notification thread/tokenUsage/updated",
    "notification turn/completed",
    "notification turn/started",
    "serverRequest item/commandExecution/requestApproval",
    "serverRequest item/fileChange/requestApproval",
];

/// Members and values that a client cannot do without, besides the ids and status of the methods above.
const REQUIRED: &[&str] = &[
    "AgentMessageDeltaNotification.delta",
    "CommandExecutionRequestApprovalResponse.decision",
    "ErrorNotification.error",
    "ErrorNotification.willRetry",
    "FileChangeRequestApprovalResponse.decision",
    "InitializeParams.clientInfo",
    "InitializeResponse.userAgent",
    "ItemCompletedNotification.item",
    "ThreadItem=agentMessage",
    "AgentMessageItem.text",
    "ThreadStartParams.approvalPolicy",
    "ThreadStartParams.cwd",
    "ThreadStartParams.sandbox",
    "TurnError.message",
    "TurnStartParams.input",
    "TurnStatus=completed",
    "TurnStatus=failed",
    "TurnStatus=inProgress",
    "TurnStatus=interrupted",
    "UserInput=text",
];

impl Report {
    /// Compares `other` with what is checked in.
    pub(crate) fn new(ours: &Model, other: &Model) -> Self {
        let (before, after) = (&ours.surface, &other.surface);
        let mut report = Self {
            new: after.difference(before).cloned().collect(),
            removed: before.difference(after).cloned().collect(),
            ..Self::default()
        };
        report.methods(ours, other);
        for (name, shape) in &ours.shapes {
            if let Some(now) = other.shapes.get(name) {
                report.shapes(name, shape, now);
            }
        }
        // A type that is gone as a whole is told by its name, not member by member.
        for (list, whole, rest) in [(&mut report.removed, ours, other), (&mut report.new, other, ours)] {
            let gone: BTreeSet<&String> = whole.shapes.keys().filter(|name| !rest.shapes.contains_key(*name)).collect();
            list.retain(|entry| owner(entry).is_none_or(|owner| !gone.iter().any(|name| *name == owner)));
            list.extend(gone.iter().map(|name| format!("type {name}")));
            list.sort();
        }
        report.broken = broken(ours, other, after);
        report
    }

    fn methods(&mut self, ours: &Model, other: &Model) {
        let lists = [
            ("request", &ours.requests, &other.requests),
            ("notification", &ours.notifications, &other.notifications),
            ("serverRequest", &ours.server_requests, &other.server_requests),
        ];
        for (kind, before, after) in lists {
            for Method { name, params } in before {
                if let Some(now) = after.iter().find(|method| method.name == *name) {
                    if now.params != *params {
                        let (then, now) = (none(params.as_ref()), none(now.params.as_ref()));
                        self.changed.push(format!("{kind} {name}: parameters {then}, there {now}"));
                    }
                }
            }
        }
    }

    fn shapes(&mut self, name: &str, before: &Shape, after: &Shape) {
        match (before, after) {
            (Shape::Struct(before), Shape::Struct(after)) => {
                for member in before {
                    let Some(now) = after.iter().find(|now| now.wire == member.wire) else { continue };
                    if now != member {
                        self.changed.push(format!("{name}.{}: {}, there {}", member.wire, told(member), told(now)));
                    }
                }
            }
            (Shape::Union { tag: before, .. }, Shape::Union { tag: after, .. }) if before != after => {
                self.changed.push(format!("{name}: told apart by {before}, there by {after}"));
            }
            _ if core::mem::discriminant(before) != core::mem::discriminant(after) => {
                self.changed.push(format!("{name}: {}, there {}", sort(before), sort(after)));
            }
            _ => {}
        }
    }

    /// The report as text, with a line of counts at its end.
    pub(crate) fn text(&self, ours: &str, other: &str) -> String {
        let mut text = format!("checked in: {ours}; compared with: {other}\n");
        let lists =
            [("new", &self.new), ("changed", &self.changed), ("removed", &self.removed), ("BROKEN", &self.broken)];
        for (title, list) in lists {
            for entry in list {
                let _ = writeln!(text, "{title}: {entry}");
            }
        }
        let _ = writeln!(
            text,
            "{} new, {} changed, {} removed, {} of these break what is required",
            self.new.len(),
            self.changed.len(),
            self.removed.len(),
            self.broken.len()
        );
        text
    }
}

/// Whatever a client needs that is not there any more.
fn broken(ours: &Model, other: &Model, surface: &BTreeSet<String>) -> Vec<String> {
    let mut broken: Vec<String> = METHODS
        .iter()
        .chain(REQUIRED)
        .filter(|needed| !surface.contains(**needed))
        .map(|needed| format!("{needed} is gone"))
        .collect();
    // Of the methods above: every id and status that decoding insists on.
    let params: BTreeMap<String, Option<&String>> =
        [("request", &ours.requests), ("notification", &ours.notifications), ("serverRequest", &ours.server_requests)]
            .into_iter()
            .flat_map(|(kind, list)| {
                list.iter().map(move |method| (format!("{kind} {}", method.name), method.params.as_ref()))
            })
            .collect();
    let mut open: Vec<String> = METHODS.iter().filter_map(|method| params.get(*method)?.cloned()).collect();
    let responses: Vec<String> = open.iter().map(|name| name.replace("Params", "Response")).collect();
    open.extend(responses);
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        open.extend(ours.references(&name));
        let (Some(before), Some(after)) = (ours.members(&name), other.members(&name)) else { continue };
        for member in before.iter().filter(|member| names::is_id_or_status(member) && member.required) {
            match after.iter().find(|now| now.wire == member.wire) {
                Some(now) if now.kind == member.kind => {}
                Some(now) => broken.push(format!("{name}.{}: {}, there {}", member.wire, told(member), told(now))),
                // A member may be younger than the other server, so that the types do not insist on it.
                None if surface_is_older(ours, other) => {}
                None => broken.push(format!("{name}.{} is gone", member.wire)),
            }
        }
    }
    broken.sort();
    broken
}

/// Whether the other schema comes before the checked-in one, by their versions.
fn surface_is_older(ours: &Model, other: &Model) -> bool {
    let parts =
        |version: &str| version.split('.').map(|part| part.parse::<u64>().unwrap_or(u64::MAX)).collect::<Vec<_>>();
    parts(&other.version) < parts(&ours.version)
}

/// The type of `Type.member` or `Type=value`.
fn owner(entry: &str) -> Option<&str> {
    entry.split_once(['.', '=']).map(|(owner, _)| owner).filter(|owner| !owner.contains(' '))
}

fn none(name: Option<&String>) -> &str {
    name.map_or("none", String::as_str)
}

fn told(member: &Member) -> String {
    let required = if member.required { "" } else { ", optional" };
    let nullable = if member.nullable { ", nullable" } else { "" };
    format!("{}{required}{nullable}", member.kind)
}

fn sort(shape: &Shape) -> &'static str {
    match shape {
        Shape::Mixed { .. } => "words of which some carry values",
        Shape::Struct(_) => "an object",
        Shape::Union { .. } => "tagged objects",
        Shape::Words(_) => "words",
    }
}
