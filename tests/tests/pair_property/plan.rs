//! What a conversation consists of, as data that a seed decides and that can be made smaller.

use serde_json::json;
use std::time::Duration;
use turnwire_core::connection::Config;
use turnwire_testkit::{
    scripted::{Early, Rule, Script, TurnPlan},
    sim::{Faults, Polling, Rng},
};

pub(crate) const PROMPTS: usize = 24;
/// What deadlines have on top: none falls on the moment at which something arrives, where either may be first.
pub(crate) const ODD: Duration = Duration::from_nanos(111);

/// One thing that the application does. Numbers choose among what there is at that moment, and no act depends on how many
/// others were done, so any of them can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A request that is answered at once, late, never, or refused as too much.
    Ask {
        what: u64,
    },
    /// Something is done with a request of the server.
    Decide {
        which: u64,
    },
    /// A request is given up.
    Drop {
        which: u64,
    },
    /// A turn is stopped.
    Interrupt {
        which: u64,
    },
    /// Somebody listens to a thread, to all below it, or to the session.
    Listen {
        which: u64,
    },
    /// A turn is forgotten: its handles are dropped.
    Release {
        which: u64,
    },
    /// A reader that has fallen behind catches up.
    Read {
        which: u64,
    },
    /// Somebody wants to answer requests of the server, or have them refused.
    Serve {
        how: u64,
    },
    StartThread,
    /// A turn starts, on the thread that was chosen; with a deadline in milliseconds. `slow`: nobody reads it before a
    /// `Read`, or the end. `asks`: its reader takes requests.
    StartTurn {
        thread: u64,
        deadline: Option<u64>,
        slow: bool,
        asks: Option<bool>,
    },
    Steer {
        which: u64,
    },
    /// Who answered does so no more.
    StopServing {
        which: u64,
    },
    /// Who listened leaves.
    Unlisten {
        which: u64,
    },
}

impl Act {
    fn of(rng: &mut Rng) -> Self {
        let which = rng.next_u64();
        match rng.below(40) {
            0 | 1 => Self::StartThread,
            2..=9 => Self::StartTurn {
                thread: which,
                deadline: rng.one_in(10).then(|| 1 + rng.below(600)),
                slow: rng.one_in(4),
                asks: *rng.pick(&[None, None, Some(false), Some(true)]).expect("some"),
            },
            10..=13 => Self::Steer { which },
            14 | 15 => Self::Interrupt { which },
            16..=19 => Self::Ask { what: which },
            20 | 21 => Self::Drop { which },
            22 => Self::Release { which },
            23 | 24 => Self::Listen { which },
            25 => Self::Unlisten { which },
            26 | 27 => Self::Serve { how: which },
            28 => Self::StopServing { which },
            29..=37 => Self::Decide { which },
            _ => Self::Read { which },
        }
    }
}

/// One thing that the server does which no client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    AnswerOutOfTurn {
        id: u64,
    },
    AskForNobody,
    AskForTime,
    CloseStdout,
    DeltaForNobody,
    Die,
    ExitMidLine,
    ExitWithWords,
    HalfALine,
    Noise,
    /// Refuses the request of this method that comes as number `nth`, as too much.
    Overload {
        method: &'static str,
        nth: u64,
    },
}

impl Trouble {
    fn step(&self, delay: u64, rule: Rule) -> Rule {
        let rule = rule.delay(delay);
        match self {
            Self::AnswerOutOfTurn { id } => rule.reply_to_id(*id, json!({"turn": {"id": "who"}})),
            Self::AskForNobody => rule.ask("item/tool/call", 900, json!({"threadId": "nobody", "tool": "t"})),
            Self::AskForTime => rule.ask("currentTime/read", 901, json!({"threadId": "nobody"})),
            Self::CloseStdout => rule.close_stdout(),
            Self::DeltaForNobody => rule.notify(
                "item/agentMessage/delta",
                json!({"threadId": "x", "turnId": "y", "itemId": "z", "delta": "q"}),
            ),
            Self::Die => rule.die(9),
            Self::ExitMidLine => rule.raw("{\"half\":").exit(3),
            Self::ExitWithWords => rule.stderr("bye\n").exit(0),
            Self::HalfALine => rule.raw_line("{\"method\":\"turn/st"),
            Self::Noise => rule.raw_line("npm warn something"),
            // These are rules of their own.
            Self::Overload { .. } => rule,
        }
    }
}

/// What of the wire's roughness there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Coalesce,
    CutAfter(u64),
    Jitter,
    Split,
    Stall,
}

/// A whole conversation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) polling: Polling,
    pub(crate) config: Config,
    /// What the model says to the prompt with this number; `None` where it fails.
    pub(crate) texts: Vec<Option<String>>,
    /// What the application does, and when.
    pub(crate) acts: Vec<(Duration, Act)>,
    /// What the server does, each so many milliseconds after the one before.
    pub(crate) troubles: Vec<(u64, Trouble)>,
    pub(crate) faults: Vec<Fault>,
    /// Whether little may be held, so that something has to be left out.
    pub(crate) is_tight: bool,
    script: Script,
}

impl Plan {
    /// `approvals`: whether turns ask before they run commands.
    pub(crate) fn new(seed: u64, approvals: bool) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x7475_726e);
        let early = [Early::None, Early::None, Early::Started, Early::Completed];
        let mut script = Script::new()
            .early(*rng.pick(&early).expect("some"))
            .reply_delay(rng.below(60))
            .started_delay(rng.below(80))
            .delta_delay(rng.below(30));
        let is_tight = rng.one_in(5);
        let mut texts = Vec::new();
        for n in 0..PROMPTS {
            // Where little may be held, some say more than that.
            let length = if is_tight && rng.one_in(4) { 3_000 + rng.below(9_000) } else { rng.below(40) };
            let text: String =
                (0..length).map(|_| *rng.pick(&['a', 'é', '世', '"', '\\', '\n', ' ']).expect("some")).collect();
            let mut turn = TurnPlan::when(format!("<{n}>")).text(text.clone());
            if rng.one_in(2) || length > 40 {
                turn = turn.deltas(1 + rng.index(90));
            }
            if rng.one_in(4) {
                turn = turn.reasoning("thinking it over");
            }
            if rng.one_in(2) {
                turn = turn.command("ls", "one\ntwo\nthree\n", i32::from(rng.one_in(2)));
                if rng.below(4) > 0 && approvals {
                    turn = turn.with_approval();
                }
            }
            let fails = rng.one_in(8);
            if fails {
                turn = turn.fail("no luck", json!("other"), 1);
            } else if rng.one_in(4) {
                turn = turn.hold();
            }
            texts.push((!fails).then_some(text));
            script = script.turn(turn);
        }
        let mut troubles = Vec::new();
        for _ in 0..rng.below(5) {
            let trouble = match rng.below(6) {
                0 => Trouble::Noise,
                1 => Trouble::HalfALine,
                2 => Trouble::AnswerOutOfTurn { id: rng.below(12) },
                3 => Trouble::AskForNobody,
                4 => Trouble::AskForTime,
                _ => Trouble::DeltaForNobody,
            };
            troubles.push((rng.below(400), trouble));
        }
        for _ in 0..rng.below(4) {
            let method = *rng.pick(&["thread/start", "turn/start", "turn/steer", "turn/interrupt"]).expect("some");
            troubles.push((0, Trouble::Overload { method, nth: 1 + rng.below(5) }));
        }
        if rng.one_in(3) {
            let end = match rng.below(4) {
                0 => Trouble::ExitMidLine,
                1 => Trouble::Die,
                2 => Trouble::CloseStdout,
                _ => Trouble::ExitWithWords,
            };
            troubles.push((rng.below(2_500), end));
        }
        let mut config = Config::default();
        config.limits.max_in_flight = 1 + rng.index(6);
        config.limits.merge_after = *rng.pick(&[Some(1), Some(8), Some(64), None]).expect("some");
        if is_tight {
            config.limits.max_unread_bytes = 2_000 + rng.index(6_000);
            config.limits.max_parked_events = 4 + rng.index(40);
            config.limits.max_queued_requests = 1 + rng.index(8);
            config.limits.max_diagnostics = 1 + rng.index(3);
        }
        config.timeouts.call = Duration::from_millis(2_000 + rng.below(8_000)) + ODD * 2;
        config.timeouts.reply = Duration::from_millis(1_500 + rng.below(3_000)) + ODD * 3;
        config.timeouts.interrupt = Duration::from_millis(3_000) + ODD * 4;
        if rng.one_in(2) {
            config.timeouts.ask = Duration::from_millis(100 + rng.below(2_000)) + ODD * 5;
            config.timeouts.take_ask = Duration::from_millis(50 + rng.below(1_000)) + ODD * 6;
        }
        if rng.one_in(6) {
            config.limits.max_asks = rng.index(3);
        }
        // Not at whole milliseconds: nothing of the server's falls on the same moment.
        let mut at = Duration::from_micros(137);
        let mut acts = Vec::new();
        if rng.one_in(2) {
            acts.push((at, Act::Serve { how: rng.next_u64() }));
        }
        for _ in 0..20 + rng.below(50) {
            at += Duration::from_millis(rng.below(120)) + Duration::from_micros(1);
            acts.push((at, Act::of(&mut rng)));
        }
        let pollings = [Polling::Eager, Polling::Lazy, Polling::Nervous, Polling::Random];
        let mut faults = vec![Fault::Split, Fault::Coalesce];
        let roughness = rng.below(4);
        if roughness > 0 {
            faults.extend([Fault::Jitter, Fault::Stall]);
        }
        if roughness == 1 {
            faults.push(Fault::CutAfter(rng.below(60_000)));
        }
        let polling = pollings[usize::try_from(seed % 4).expect("small")];
        Self { seed, polling, config, texts, acts, troubles, faults, is_tight, script }
    }

    pub(crate) fn script(&self) -> Script {
        // The application asks for these; some answers come late, some never.
        let mut script = self
            .script
            .clone()
            .rule(Rule::on("fast").reply(json!("$params")))
            .rule(Rule::on("slow").delay(300).reply(json!("$params")))
            .rule(Rule::on("never"))
            .rule(Rule::on("refused").reply_error(-32001, "Server overloaded"));
        let mut trouble = Rule::at_start();
        for (delay, what) in &self.troubles {
            if let Trouble::Overload { method, nth } = what {
                script = script.rule(Rule::on(*method).nth(*nth).reply_error(-32001, "Server overloaded"));
            } else {
                trouble = what.step(*delay, trouble);
            }
        }
        script.rule(trouble)
    }

    pub(crate) fn wire(&self) -> Faults {
        let rough = Faults::rough();
        let mut faults = Faults::default();
        for fault in &self.faults {
            match fault {
                Fault::Coalesce => faults.coalesce = true,
                Fault::CutAfter(bytes) => faults.cut_after = Some(*bytes),
                Fault::Jitter => faults.jitter = rough.jitter,
                Fault::Split => faults.split = true,
                Fault::Stall => (faults.stall, faults.stall_one_in) = (rough.stall, rough.stall_one_in),
            }
        }
        faults
    }

    /// Whether the server refuses to stop a turn.
    pub(crate) fn refuses_interrupts(&self) -> bool {
        let refuses = |trouble: &Trouble| matches!(trouble, Trouble::Overload { method: "turn/interrupt", .. });
        self.troubles.iter().any(|(_, trouble)| refuses(trouble))
    }

    /// How many parts can be left out.
    pub(crate) fn parts(&self) -> usize {
        self.acts.len() + self.troubles.len() + self.faults.len()
    }

    /// The plan with these of its parts.
    pub(crate) fn with_parts(&self, kept: &[usize]) -> Self {
        fn keep<T: Clone>(all: &[T], from: usize, kept: &[usize]) -> Vec<T> {
            all.iter().enumerate().filter(|(n, _)| kept.contains(&(from + n))).map(|(_, part)| part.clone()).collect()
        }
        Self {
            acts: keep(&self.acts, 0, kept),
            troubles: keep(&self.troubles, self.acts.len(), kept),
            faults: keep(&self.faults, self.acts.len() + self.troubles.len(), kept),
            ..self.clone()
        }
    }
}
