//! What each thread's own sandbox is, as far as the server has told, and how a turn's sandbox stays a turn's.
//!
//! On the wire a `sandboxPolicy` that is given with a turn becomes the thread's for all turns to come, and may allow more
//! than the thread's did. Here it is the turn's alone, and allows no more unless the caller says so:
//!
//! - the thread's own sandbox is read from the results of `thread/start`, `thread/resume` and `thread/fork`, and from
//!   `thread/settings/updated`, where the echo of an override of ours is told from a change by somebody else;
//! - a start with an override is refused here when the override may allow more than the thread's own;
//! - after an override the thread's own is sent again (`thread/settings/update`), and until that is answered every start
//!   carries it. An override that tightens is taken back when its turn is over for the server; one that relaxes as soon as
//!   its turn is known to run, because no server applies a change of settings to a turn that runs: so neither a turn that
//!   the server begins by itself, nor one after a crash, has what was allowed to one turn;
//! - what cannot be sent, or is refused or not answered, is a diagnostic with the thread's name.
//!
//! ```text
//! clean      --start with an override--> overridden
//! overridden --turn over, or runs relaxed--> restoring   (thread/settings/update)
//! overridden, restoring --start that carries the thread's own is answered--> clean
//! restoring  --answered--> clean
//!            --refused, timed out--> overridden, and a diagnostic
//! ```

use super::{Connection, Lane, Prepared, Purpose, RequestKey, TurnOptions};
use crate::{
    envelope::JsonText,
    error::{Fault, Relaxation},
    id::ThreadId,
    json::Json,
    protocol::{
        ActivePermissionProfile, ApprovalsReviewer, AskForApproval, Request, SandboxMode, SandboxPolicy,
        ThreadSettingsUpdate, TurnStart,
    },
    sandbox::{is_at_most, is_echo, is_same, is_within_mode},
    time::Time,
    turn::{DiagnosticKind, TurnKey},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The settings of a thread that the server told this connection of.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct KnownSettings {
    /// The thread's own sandbox: the one that a turn has which says nothing of it.
    pub sandbox: Option<SandboxPolicy>,
    /// The permission profile that the thread's own sandbox comes from, if it comes from one.
    pub permission_profile: Option<String>,
    /// When the agent must ask.
    pub approval_policy: Option<AskForApproval>,
    /// Who answers.
    pub approvals_reviewer: Option<ApprovalsReviewer>,
    /// Whether the sandbox that the server has in force for the thread is, or may be, that of one turn, which is still to
    /// be taken back.
    pub is_overridden: bool,
}

/// The settings of the threads of one connection, bounded by `Limits::max_thread_settings`.
#[derive(Clone, Default)]
pub(super) struct Settings {
    threads: HashMap<ThreadId, Entry>,
    /// Rises with each use.
    clock: u64,
    /// Threads whose own sandbox is to be sent again.
    due: VecDeque<ThreadId>,
    /// What was sent and is not answered.
    restores: BTreeMap<RequestKey, ThreadId>,
}

#[derive(Clone, Default)]
struct Entry {
    known: KnownSettings,
    /// Set while the server may have something else in force than the thread's own.
    over: Option<Override>,
    /// The last override that was taken back, until the server says what is in force since. What it says of this one till
    /// then is late.
    taken_back: Option<Box<Override>>,
    used: u64,
}

#[derive(Clone)]
struct Override {
    /// What was asked for; `None` if that is a permission profile, or not known any more.
    policy: Option<SandboxPolicy>,
    profile: Option<String>,
    /// The turn that asked; `None`: one of an earlier connection.
    by: Option<TurnKey>,
    /// Whether it may allow more than the thread's own.
    relaxes: bool,
    /// Whether the server has said that it is in force.
    is_echoed: bool,
    /// Whether one before it had not been taken back when this was asked for.
    was_overridden: bool,
    /// The last request that takes it back.
    restore: Option<RequestKey>,
    /// Whether a diagnostic has said that it is not taken back.
    is_told: bool,
    /// Whether the server said that it is in force after it was taken back.
    has_come_back: bool,
    /// A start that carries the thread's own sandbox.
    carrier: Option<TurnKey>,
}

impl Entry {
    /// The thread's own sandbox is in force again.
    fn take_back(&mut self) {
        if let Some(over) = self.over.take() {
            self.taken_back = Some(Box::new(over));
        }
    }

    /// Whether this was said before the thread's own was in force again. If it should be somebody else's change, it is better
    /// undone than kept.
    fn comes_late(&self, policy: &SandboxPolicy, profile: Option<&str>) -> bool {
        self.over.is_none()
            && self.taken_back.as_ref().is_some_and(|over| over.says(policy, profile))
            && !self.known.sandbox.as_ref().is_some_and(|own| is_same(own, policy))
    }
}

impl Override {
    fn says(&self, policy: &SandboxPolicy, profile: Option<&str>) -> bool {
        let is_profile = self.profile.is_some() && self.profile.as_deref() == profile;
        is_profile || self.policy.as_ref().is_some_and(|told| is_echo(policy, told))
    }
}

/// What a request of the application says of a thread's settings, kept until its answer.
#[derive(Clone)]
pub(super) enum Note {
    /// `thread/start`, `thread/resume`, `thread/fork` with this sandbox.
    Mode(SandboxMode),
    /// `thread/settings/update` with this sandbox.
    Update(ThreadId, SandboxPolicy),
}

/// What a start does about the sandbox, decided before it is entered.
pub(super) enum Arrangement {
    Nothing,
    Carry,
    Override { policy: Option<SandboxPolicy>, profile: Option<String>, relaxes: bool },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given<'a> {
    #[serde(borrow)]
    thread_id: Option<&'a RawValue>,
    #[serde(borrow)]
    sandbox: Option<&'a RawValue>,
    #[serde(borrow)]
    sandbox_policy: Option<&'a RawValue>,
    #[serde(borrow)]
    permissions: Option<&'a RawValue>,
}

impl Given<'_> {
    fn names_sandbox(&self) -> bool {
        self.sandbox_policy.is_some() || self.permissions.is_some()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(borrow)]
    thread: Option<ToldThread<'a>>,
    #[serde(borrow)]
    sandbox: Option<&'a RawValue>,
    #[serde(borrow)]
    sandbox_policy: Option<&'a RawValue>,
    #[serde(borrow)]
    approval_policy: Option<&'a RawValue>,
    #[serde(borrow)]
    approvals_reviewer: Option<&'a RawValue>,
    #[serde(borrow)]
    active_permission_profile: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToldThread<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// A member that is not there, is null, or does not fit, is not known.
fn read<T: serde::de::DeserializeOwned>(raw: Option<&RawValue>) -> Option<T> {
    raw.filter(|raw| raw.get() != "null").and_then(|raw| serde_json::from_str(raw.get()).ok())
}

impl Told<'_> {
    fn sandbox(&self) -> Option<SandboxPolicy> {
        read(self.sandbox.or(self.sandbox_policy))
    }

    fn profile(&self) -> Option<String> {
        read::<ActivePermissionProfile>(self.active_permission_profile).map(|profile| profile.id)
    }
}

impl Settings {
    /// The entry of a thread, made if there is none. The one that was used least recently, and has nothing to restore,
    /// makes room.
    fn entry(&mut self, thread: &ThreadId, limit: usize) -> &mut Entry {
        self.clock += 1;
        if !self.threads.contains_key(thread) && self.threads.len() >= limit.max(1) {
            let oldest = self.threads.iter().min_by_key(|(_, entry)| (entry.over.is_some(), entry.used));
            if let Some(oldest) = oldest.map(|(thread, _)| thread.clone()) {
                self.threads.remove(&oldest);
            }
        }
        let entry = self.threads.entry(thread.clone()).or_default();
        entry.used = self.clock;
        entry
    }

    /// Notes that a thread's own sandbox is to be sent again, unless that is under way.
    fn want_restore(&mut self, thread: &ThreadId) {
        let is_under_way =
            self.threads.get(thread).and_then(|entry| entry.over.as_ref()).is_none_or(|over| over.restore.is_some());
        if !is_under_way && !self.due.contains(thread) {
            self.due.push_back(thread.clone());
        }
    }
}

/// Getters and what a session hands on.
impl Connection {
    /// What the server told of a thread's settings; `None` if nothing.
    #[must_use]
    pub fn thread_settings(&self, thread: &ThreadId) -> Option<KnownSettings> {
        let entry = self.settings.threads.get(thread)?;
        Some(KnownSettings { is_overridden: entry.over.is_some(), ..entry.known.clone() })
    }

    /// The threads whose own sandbox could not be restored, with that sandbox: for the connection that follows this one,
    /// since servers keep what was in force.
    #[must_use]
    pub fn unrestored(&self) -> BTreeMap<ThreadId, KnownSettings> {
        let over = self.settings.threads.iter().filter(|(_, entry)| entry.over.is_some());
        let known = |entry: &Entry| KnownSettings { is_overridden: true, ..entry.known.clone() };
        over.map(|(thread, entry)| (thread.clone(), known(entry))).collect()
    }

    /// Takes over what the connection before could not restore. When such a thread is loaded with another sandbox than its
    /// own, its own is restored.
    pub fn adopt_unrestored(&mut self, unrestored: BTreeMap<ThreadId, KnownSettings>) {
        let limit = self.config.limits.max_thread_settings;
        for (thread, known) in unrestored {
            let entry = self.settings.entry(&thread, limit);
            entry.known = known;
            entry.over = Some(Override {
                policy: None,
                profile: None,
                by: None,
                relaxes: true,
                is_echoed: false,
                was_overridden: true,
                restore: None,
                is_told: false,
                has_come_back: false,
                carrier: None,
            });
        }
    }
}

/// What the server tells.
impl Connection {
    /// What a request of the application says of a thread's settings. A start of a turn on a thread that has a turn's
    /// sandbox in force is given the thread's own.
    pub(super) fn note_of_request(&self, request: &mut Prepared) -> Option<Note> {
        let is_start = &*request.method == TurnStart::METHOD;
        match &*request.method {
            TurnStart::METHOD | ThreadSettingsUpdate::METHOD | "thread/start" | "thread/resume" | "thread/fork" => {}
            _ => return None,
        }
        let given: Given<'_> = request.params.decode().ok()?;
        if is_start {
            let thread = read::<ThreadId>(given.thread_id)?;
            let known = &self.settings.threads.get(&thread).filter(|entry| entry.over.is_some())?.known;
            if !given.names_sandbox() {
                let (name, value) = self.own_member(known)?;
                request.set_member(name, &value);
            }
            return None;
        }
        match read::<SandboxMode>(given.sandbox) {
            Some(mode) => Some(Note::Mode(mode)),
            None => Some(Note::Update(read(given.thread_id)?, read(given.sandbox_policy)?)),
        }
    }

    /// Looks at an answer before it is filed: it may tell the settings of a thread. A thread that got a looser sandbox than
    /// was asked for is a fault, because whoever asked relies on it.
    pub(super) fn note_answer(&mut self, key: RequestKey, outcome: Result<Json, Fault>) -> Result<Json, Fault> {
        let Ok(json) = &outcome else { return outcome };
        let Some((method, note)) = self.requests.open_call(key) else { return outcome };
        match method {
            "thread/start" | "thread/resume" | "thread/fork" => {}
            ThreadSettingsUpdate::METHOD => {
                if let Some(Note::Update(thread, policy)) = note {
                    let (thread, policy) = (thread.clone(), policy.clone());
                    self.note_own(&thread, policy, None);
                }
                return outcome;
            }
            _ => return outcome,
        }
        let mode = match note {
            Some(Note::Mode(mode)) => Some(mode.clone()),
            _ => None,
        };
        let Ok(told) = json.decode::<Told<'_>>() else { return outcome };
        let Some(thread) = read::<ThreadId>(told.thread.as_ref().and_then(|thread| thread.id)) else { return outcome };
        let Some(policy) = told.sandbox() else { return outcome };
        self.note_approvals(&thread, &told);
        let limit = self.config.limits.max_thread_settings;
        let entry = self.settings.entry(&thread, limit);
        match &entry.over {
            None if entry.comes_late(&policy, told.profile().as_deref()) => self.hold_to_own(&thread),
            // What the turn has, or had, in force; or what an earlier connection could not restore.
            Some(over) if over.by.is_none() || over.says(&policy, told.profile().as_deref()) => {
                if entry.known.sandbox.as_ref().is_some_and(|own| is_same(own, &policy)) {
                    entry.over = None;
                } else if over.by.is_none() {
                    self.settings.want_restore(&thread);
                }
            }
            _ => self.note_own(&thread, policy.clone(), told.profile()),
        }
        match mode {
            Some(asked) if is_within_mode(&policy, &asked) == Some(false) => {
                Err(Fault::SandboxLooser { asked, effective: Box::new(policy) })
            }
            _ => outcome,
        }
    }

    /// Takes a `thread/settings/updated`.
    pub(super) fn note_settings(&mut self, method: &str, params: Option<JsonText<'_>>) {
        if method != "thread/settings/updated" {
            return;
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Updated<'a> {
            thread_id: ThreadId,
            #[serde(borrow)]
            thread_settings: Told<'a>,
        }
        let Some(updated) = params.and_then(|params| serde_json::from_str::<Updated<'_>>(params.get()).ok()) else {
            return;
        };
        let Updated { thread_id: thread, thread_settings: told } = updated;
        self.note_approvals(&thread, &told);
        let Some(policy) = told.sandbox() else { return };
        let profile = told.profile();
        let limit = self.config.limits.max_thread_settings;
        let entry = self.settings.entry(&thread, limit);
        if entry.comes_late(&policy, profile.as_deref()) {
            return self.hold_to_own(&thread);
        }
        let is_own = entry.known.sandbox.as_ref().is_some_and(|own| is_same(own, &policy));
        match &mut entry.over {
            Some(over) if over.says(&policy, profile.as_deref()) => over.is_echoed = true,
            // Another setting changed before ours was in force; or ours is being taken back.
            Some(_) if is_own => {}
            Some(over) if !over.is_echoed && over.restore.is_none() => {
                if entry.known.sandbox.as_ref().is_some_and(|own| is_at_most(&policy, own)) {
                    // Somebody else's change, and ours is still to come.
                    entry.known.sandbox = Some(policy);
                    entry.known.permission_profile = profile;
                } else {
                    // Ours, in the server's own words. If it should be somebody else's, it is better undone than kept.
                    over.policy = Some(policy);
                    over.is_echoed = true;
                }
            }
            _ => self.note_own(&thread, policy, profile),
        }
    }

    /// What was taken back is said to be in force. It is taken back again, but once, because a server may say the same for
    /// ever.
    fn hold_to_own(&mut self, thread: &ThreadId) {
        let entry = self.settings.entry(thread, self.config.limits.max_thread_settings);
        let again = entry.taken_back.take().map(|over| Override {
            is_echoed: true,
            was_overridden: false,
            restore: None,
            is_told: over.has_come_back,
            has_come_back: true,
            carrier: None,
            ..*over
        });
        let is_told = again.as_ref().is_some_and(|over| over.is_told);
        entry.over = again;
        if is_told {
            self.diagnose_unrestored(thread);
        } else {
            self.settings.want_restore(thread);
        }
    }

    fn note_approvals(&mut self, thread: &ThreadId, told: &Told<'_>) {
        let limit = self.config.limits.max_thread_settings;
        let known = &mut self.settings.entry(thread, limit).known;
        known.approval_policy = read(told.approval_policy).or(known.approval_policy.take());
        known.approvals_reviewer = read(told.approvals_reviewer).or(known.approvals_reviewer.take());
    }

    /// The thread's own sandbox is this, and it is in force.
    fn note_own(&mut self, thread: &ThreadId, policy: SandboxPolicy, profile: Option<String>) {
        let limit = self.config.limits.max_thread_settings;
        let entry = self.settings.entry(thread, limit);
        entry.known.sandbox = Some(policy);
        entry.known.permission_profile = profile;
        entry.over = None;
        entry.taken_back = None;
    }
}

/// Starts of turns.
impl Connection {
    /// Puts the sandbox of a turn into its start, if it may have it.
    pub(super) fn arrange_sandbox(
        &self,
        thread: &ThreadId,
        request: &mut Prepared,
        options: &TurnOptions,
    ) -> Result<Arrangement, Box<Relaxation>> {
        let entry = self.settings.threads.get(thread);
        let known = entry.map(|entry| &entry.known);
        let own = known.and_then(|known| known.sandbox.as_ref());
        let Some(sandbox) = &options.sandbox else {
            if let Some(profile) = &options.profile {
                if !options.may_relax {
                    return Err(relaxation(thread, own, None));
                }
                return Ok(Arrangement::Override { policy: None, profile: Some(profile.clone()), relaxes: true });
            }
            let known = entry.filter(|entry| entry.over.is_some()).map(|entry| &entry.known);
            let Some((name, value)) = known.and_then(|known| self.own_member(known)) else {
                return Ok(Arrangement::Nothing);
            };
            request.set_member(name, &value);
            return Ok(Arrangement::Carry);
        };
        let policy = sandbox.policy(own);
        // With another working folder the same words allow other things.
        let is_elsewhere = options.moves_roots && matches!(policy, SandboxPolicy::WorkspaceWrite(_));
        let is_full = matches!(own, Some(SandboxPolicy::DangerFullAccess));
        let is_tight = own.is_some_and(|own| is_at_most(&policy, own)) && (!is_elsewhere || is_full);
        if !is_tight && !sandbox.may_relax() && !options.may_relax {
            return Err(relaxation(thread, own, Some(policy)));
        }
        let Ok(value) = Json::encode(&policy) else { return Ok(Arrangement::Nothing) };
        request.set_member("sandboxPolicy", &value);
        let has_profile = known.is_some_and(|known| known.permission_profile.is_some());
        if own.is_some_and(|own| is_same(own, &policy)) && !has_profile {
            return Ok(Arrangement::Carry);
        }
        Ok(Arrangement::Override { policy: Some(policy), profile: None, relaxes: !is_tight })
    }

    /// Notes what a start that was entered does.
    pub(super) fn note_arrangement(&mut self, thread: &ThreadId, key: TurnKey, arrangement: Arrangement) {
        let limit = self.config.limits.max_thread_settings;
        match arrangement {
            Arrangement::Nothing => {}
            Arrangement::Carry => {
                if let Some(over) = self.settings.entry(thread, limit).over.as_mut() {
                    over.carrier = Some(key);
                }
            }
            Arrangement::Override { policy, profile, relaxes } => {
                let entry = self.settings.entry(thread, limit);
                let was_overridden = entry.over.is_some();
                entry.over = Some(Override {
                    policy,
                    profile,
                    by: Some(key),
                    relaxes,
                    is_echoed: false,
                    was_overridden,
                    restore: None,
                    is_told: false,
                    has_come_back: false,
                    carrier: None,
                });
            }
        }
    }

    /// The server has taken a start: if it carried the thread's own sandbox, that is in force.
    pub(super) fn sandbox_accepted(&mut self, thread: &ThreadId, key: TurnKey) {
        let Some(entry) = self.settings.threads.get_mut(thread) else { return };
        if entry.over.as_ref().is_some_and(|over| over.carrier == Some(key)) {
            entry.take_back();
        }
    }

    /// A start changed nothing, because it was not sent or was refused.
    pub(super) fn sandbox_refused(&mut self, thread: &ThreadId, key: TurnKey) {
        let Some(entry) = self.settings.threads.get_mut(thread) else { return };
        let Some(over) = entry.over.as_mut().filter(|over| over.by == Some(key)) else { return };
        if over.was_overridden {
            over.policy = None;
            over.profile = None;
        } else {
            entry.over = None;
        }
    }

    /// A turn is known to run: from now on its sandbox is its own, whatever the thread has.
    pub(super) fn sandbox_runs(&mut self, thread: &ThreadId, key: TurnKey) {
        let over = self.settings.threads.get(thread).and_then(|entry| entry.over.as_ref());
        if over.is_some_and(|over| over.by == Some(key) && over.relaxes) {
            self.settings.want_restore(thread);
        }
    }

    /// A turn of the thread is over for the server.
    pub(super) fn sandbox_over(&mut self, thread: &ThreadId) {
        if self.settings.threads.get(thread).is_some_and(|entry| entry.over.is_some()) {
            self.settings.want_restore(thread);
        }
    }

    /// Whether the own sandbox of some thread is to be sent.
    pub(super) fn has_restores(&self) -> bool {
        !self.settings.due.is_empty()
    }

    /// Sends the own sandbox of the threads that are to have it again.
    pub(super) fn send_restores(&mut self, now: Time) {
        while let Some(thread) = self.settings.due.pop_front() {
            let Some(entry) = self.settings.threads.get(&thread).filter(|entry| entry.over.is_some()) else { continue };
            let mut params = ThreadSettingsUpdate::new(thread.clone());
            match self.own_member(&entry.known) {
                Some(("permissions", _)) => params.permissions.clone_from(&entry.known.permission_profile),
                Some(_) => params.sandbox_policy.clone_from(&entry.known.sandbox),
                // There is nothing to restore it to.
                None => {
                    self.diagnose_unrestored(&thread);
                    continue;
                }
            }
            let entered = Prepared::new(&params)
                .and_then(|request| self.enter_as(now, request, Purpose::RestoreSandbox, Lane::Urgent));
            match entered {
                Ok(key) => {
                    self.settings.restores.insert(key, thread.clone());
                    if let Some(over) = self.settings.threads.get_mut(&thread).and_then(|entry| entry.over.as_mut()) {
                        over.restore = Some(key);
                    }
                }
                Err(_) => self.diagnose_unrestored(&thread),
            }
        }
    }

    /// The answer to such a request came, or will not come.
    pub(super) fn handle_restored(&mut self, key: RequestKey, outcome: &Result<Json, Fault>) {
        let Some(thread) = self.settings.restores.remove(&key) else { return };
        let Some(entry) = self.settings.threads.get_mut(&thread) else { return };
        let Some(over) = entry.over.as_mut().filter(|over| over.restore == Some(key)) else { return };
        if outcome.is_ok() {
            entry.take_back();
        } else {
            over.restore = None;
            over.is_told = true;
            self.diagnose_unrestored(&thread);
        }
    }

    /// The connection is over: what was not restored is not restored.
    pub(super) fn give_restores_up(&mut self) {
        self.settings.due.clear();
        let is_lost = |entry: &Entry| entry.over.as_ref().is_some_and(|over| over.restore.is_none() && !over.is_told);
        let lost = self.settings.threads.iter().filter(|(_, entry)| is_lost(entry));
        let mut lost: Vec<ThreadId> = lost.map(|(thread, _)| thread.clone()).collect();
        lost.sort();
        for thread in lost {
            self.diagnose_unrestored(&thread);
        }
    }

    /// The member of a request that says the thread's own sandbox.
    fn own_member(&self, known: &KnownSettings) -> Option<(&'static str, Json)> {
        if let (Some(profile), true) = (&known.permission_profile, self.config.experimental_api) {
            return Some(("permissions", Json::string(profile)));
        }
        let policy = known.sandbox.as_ref()?;
        Some(("sandboxPolicy", Json::encode(policy).ok()?))
    }

    fn diagnose_unrestored(&mut self, thread: &ThreadId) {
        self.diagnose(DiagnosticKind::SandboxNotRestored, thread.as_str().as_bytes(), 0);
    }
}

fn relaxation(thread: &ThreadId, own: Option<&SandboxPolicy>, asked: Option<SandboxPolicy>) -> Box<Relaxation> {
    Box::new(Relaxation { thread: thread.clone(), own: own.cloned(), asked })
}
