//! Which thread was made by which: the threads of sub-agents.
//!
//! The model may start sub-agents. Each has a thread of its own on the same connection, which nobody here has started,
//! and the server says in several ways whose it is:
//!
//! | evidence | how sure |
//! |---|---|
//! | `thread/started` with `parentThreadId`, or with the parent in its `source` | certain |
//! | an item `collabAgentToolCall` of `spawnAgent`, with the children as receivers | certain |
//! | an item `subAgentActivity` of kind `started` | certain |
//! | the same items of other kinds: somebody waits for, or hears of, an agent | a hint |
//! | `turn/started` with the `rootTurnId` of a turn that runs on another thread | a hint |
//!
//! A certain word replaces a hint. The first things that a child says may come before any of them; while somebody follows
//! a tree they are kept, within bounds, until it is known where they belong.

use super::{Connection, Event, Scope};
use crate::{
    envelope::{JsonText, Keys},
    id::{ThreadId, TurnId},
    protocol::{
        self, CollabAgentTool, ItemCompletedNotification, SessionSource, SubAgentActivityKind, SubAgentSource,
        ThreadItem,
    },
    turn::{EventLog, RawEvent},
};
use alloc::{collections::VecDeque, vec::Vec};
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How far up a thread's ancestors are looked for. Servers allow fewer.
const MAX_DEPTH: usize = 64;

/// What is known of the families of threads.
#[derive(Clone, Default)]
pub(super) struct Kin {
    parents: HashMap<ThreadId, Parent>,
    /// The keys of `parents`, in the order in which they were learnt. Length <= `Limits::max_known_children`.
    learnt: VecDeque<ThreadId>,
    /// Who follows the tree below a thread, by that thread.
    trees: HashMap<ThreadId, EventLog>,
    /// What threads said of which nothing is known, while somebody follows a tree. Length <= `Limits::max_parked_events`.
    strays: VecDeque<(ThreadId, RawEvent)>,
    /// The sum of the sizes of `strays`.
    stray_bytes: usize,
}

#[derive(Clone)]
struct Parent {
    thread: ThreadId,
    is_certain: bool,
}

impl Kin {
    /// Whether anybody follows a tree.
    pub(super) fn is_followed(&self) -> bool {
        !self.trees.is_empty()
    }

    /// The log of the tree below a thread. `make`: there is one from now on.
    pub(super) fn tree(&mut self, root: &ThreadId, make: bool, is_over: bool) -> Option<&mut EventLog> {
        if make && !self.trees.contains_key(root) {
            let mut log = EventLog::default();
            if is_over {
                log.finish(|_| {});
            }
            self.trees.insert(root.clone(), log);
        }
        self.trees.get_mut(root)
    }

    /// Forgets the logs that nobody reads any more.
    pub(super) fn prune(&mut self) {
        self.trees.retain(|_, log| !log.is_unheard());
        if self.trees.is_empty() {
            self.strays = VecDeque::new();
            self.stray_bytes = 0;
        }
    }

    /// Says that no more events come. Their consumers are told by the caller.
    pub(super) fn finish(&mut self) {
        self.trees.values_mut().for_each(|log| log.finish(|_| {}));
        self.strays.clear();
        self.stray_bytes = 0;
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.stray_bytes + self.trees.values().map(EventLog::bytes).sum::<usize>()
    }

    fn parent(&self, thread: &str) -> Option<&ThreadId> {
        self.parents.get(thread).map(|parent| &parent.thread)
    }

    /// A thread and its ancestors, the nearest first.
    fn line<'a>(&'a self, thread: &'a str) -> impl Iterator<Item = &'a str> {
        let up = |thread: &&'a str| self.parent(thread).map(ThreadId::as_str);
        core::iter::successors(Some(thread), up).take(MAX_DEPTH)
    }

    /// The threads of the followed trees that a thread belongs to.
    fn roots(&self, thread: &str) -> Vec<ThreadId> {
        self.line(thread)
            .filter_map(|ancestor| self.trees.get_key_value(ancestor))
            .map(|(root, _)| root.clone())
            .collect()
    }

    /// Notes whose child a thread is. Says whether that was news.
    fn adopt(&mut self, child: &ThreadId, parent: &ThreadId, is_certain: bool, limit: usize) -> bool {
        if self.line(parent.as_str()).any(|ancestor| ancestor == child.as_str()) {
            return false;
        }
        match self.parents.get_mut(child) {
            Some(known) if known.is_certain || !is_certain => return false,
            Some(known) => *known = Parent { thread: parent.clone(), is_certain },
            None => {
                self.parents.insert(child.clone(), Parent { thread: parent.clone(), is_certain });
                self.learnt.push_back(child.clone());
                if self.learnt.len() > limit {
                    if let Some(oldest) = self.learnt.pop_front() {
                        self.parents.remove(&oldest);
                    }
                }
            }
        }
        true
    }
}

/// Getters.
impl Connection {
    /// The thread whose agent made a thread, as far as the server has told.
    #[must_use]
    pub fn parent_of(&self, thread: &str) -> Option<&ThreadId> {
        self.kin.parent(thread)
    }

    /// The threads that the agent of a thread has made, as far as the server has told, the oldest first.
    #[must_use]
    pub fn children_of(&self, thread: &str) -> Vec<ThreadId> {
        let is_child = |child: &&ThreadId| self.kin.parent(child.as_str()).is_some_and(|parent| parent == thread);
        self.kin.learnt.iter().filter(is_child).cloned().collect()
    }
}

impl Connection {
    /// Looks for what a notification says about whose child a thread is.
    pub(super) fn note_kin(&mut self, method: &str, params: Option<JsonText<'_>>, keys: &Keys<'_>) {
        let (Some(params), Some(thread)) = (params, keys.thread()) else { return };
        match method {
            "item/completed" | "item/started" => self.note_kin_in_item(thread, params),
            "thread/started" => self.note_kin_in_thread(params),
            "turn/started" => {
                let root = keys.root_turn_id.as_deref().filter(|root| Some(*root) != keys.turn());
                let parent =
                    root.and_then(|root| self.thread_that_runs(root)).filter(|parent| parent.as_str() != thread);
                if let Some(parent) = parent {
                    self.adopt(&[&thread.into()], &parent, false);
                }
            }
            _ => {}
        }
    }

    fn note_kin_in_item(&mut self, thread: &str, params: JsonText<'_>) {
        // Nearly all items are others, and are not to be read for this.
        let text = params.as_bytes();
        let is_about = |word: &[u8]| memchr::memmem::find(text, word).is_some();
        if !is_about(b"\"subAgentActivity\"") && !is_about(b"\"collabAgentToolCall\"") {
            return;
        }
        let Ok(ItemCompletedNotification { item, .. }) = protocol::decode(params.get()) else { return };
        match item {
            ThreadItem::CollabAgentToolCall(call) => {
                let is_certain = call.tool == CollabAgentTool::SpawnAgent;
                let children: Vec<&ThreadId> = call.receiver_thread_ids.iter().collect();
                self.adopt(&children, &call.sender_thread_id, is_certain);
            }
            ThreadItem::SubAgentActivity(activity) => {
                let is_certain = activity.kind == SubAgentActivityKind::Started;
                self.adopt(&[&activity.agent_thread_id], &thread.into(), is_certain);
            }
            _ => {}
        }
    }

    fn note_kin_in_thread(&mut self, params: JsonText<'_>) {
        // Read one by one, so that no other member of a thread that does not fit its type is in the way.
        #[derive(Deserialize)]
        struct Started<'a> {
            #[serde(borrow)]
            thread: StartedThread<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct StartedThread<'a> {
            id: ThreadId,
            #[serde(borrow)]
            parent_thread_id: Option<&'a RawValue>,
            #[serde(borrow)]
            source: Option<&'a RawValue>,
        }
        let Ok(Started { thread }) = serde_json::from_str(params.get()) else { return };
        let named = || serde_json::from_str::<ThreadId>(thread.parent_thread_id?.get()).ok();
        let in_source = || match serde_json::from_str(thread.source?.get()).ok()? {
            SessionSource::SubAgent(SubAgentSource::ThreadSpawn(spawn)) => Some(spawn.parent_thread_id),
            _ => None,
        };
        if let Some(parent) = named().or_else(in_source) {
            self.adopt(&[&thread.id], &parent, true);
        }
    }

    /// The thread on which a turn runs, as far as is known here.
    fn thread_that_runs(&self, turn: &str) -> Option<ThreadId> {
        let ours = self.turns.iter().filter(|(_, ours)| ours.id.as_ref().is_some_and(|id| id == turn));
        let others = || {
            let runs = |running: &Option<TurnId>| running.as_ref().is_some_and(|id| id == turn);
            self.watched.iter().find(|(_, watched)| runs(&watched.running)).map(|(thread, _)| thread.clone())
        };
        ours.min_by_key(|(key, _)| **key).map(|(_, turn)| turn.thread.clone()).or_else(others)
    }

    fn adopt(&mut self, children: &[&ThreadId], parent: &ThreadId, is_certain: bool) {
        let limit = self.config.limits.max_known_children;
        let mut is_new = false;
        for child in children {
            is_new |= self.kin.adopt(child, parent, is_certain, limit);
        }
        if !is_new || self.kin.strays.is_empty() {
            return;
        }
        // What is known of one thread may place others, further down.
        let strays = core::mem::take(&mut self.kin.strays);
        self.kin.stray_bytes = 0;
        for (thread, event) in strays {
            self.offer_to_trees(thread.as_str(), event);
        }
    }

    /// Gives an event of a thread to those who follow a tree that the thread belongs to. Says whether there are any.
    pub(super) fn push_to_trees(&mut self, thread: &str, event: &RawEvent) -> bool {
        let policy = self.policy();
        let roots = self.kin.roots(thread);
        for root in &roots {
            let Some(log) = self.kin.trees.get_mut(root) else { continue };
            let events = &mut self.events;
            let pushed = log.push(event.clone(), policy, |key| events.push_back(Event::Readable(key)));
            self.counters.merged += pushed.merged;
            self.counters.left_out += pushed.left_out;
        }
        !roots.is_empty()
    }

    /// Gives an event to the trees of its thread, or keeps it for when it is known whose thread that is. Says whether
    /// there is such a tree.
    pub(super) fn offer_to_trees(&mut self, thread: &str, event: RawEvent) -> bool {
        if self.push_to_trees(thread, &event) {
            return true;
        }
        // Below one of our own threads that nobody follows, it is in its place.
        let top = self.kin.line(thread).last().unwrap_or(thread);
        if self.threads.get(top).is_some_and(|entry| entry.live.is_some()) {
            return false;
        }
        self.kin.stray_bytes += event.size();
        self.kin.strays.push_back((thread.into(), event));
        let limits = &self.config.limits;
        while self.kin.strays.len() > limits.max_parked_events || self.kin.stray_bytes > limits.max_unread_bytes {
            // The oldest: it has had the longest time to turn out to belong here.
            let Some((_, event)) = self.kin.strays.pop_front() else { break };
            self.kin.stray_bytes = self.kin.stray_bytes.saturating_sub(event.size());
            self.counters.left_out += 1;
        }
        false
    }

    pub(super) fn prune_scope(&mut self, scope: &Scope) {
        match scope {
            Scope::Thread(thread) | Scope::Turns(thread) => self.prune_thread(thread.as_str()),
            Scope::Tree(_) => self.kin.prune(),
            Scope::Turn(turn) => {
                if self.left_logs.get(turn).is_some_and(EventLog::is_unheard) {
                    self.left_logs.remove(turn);
                }
            }
            Scope::Connection => {}
        }
    }
}
