//! Numbers that stand for texts: what the pieces of a message add up to, and what an input says.

use crate::{envelope::JsonText, id::ItemId, json::Json};
use alloc::{borrow::Cow, vec::Vec};
use serde::Deserialize;

/// How many messages may be open at once before the oldest is not checked. Those that a server gives up stay open.
const MAX_OPEN: usize = 16;

/// A number for a text, however it comes in pieces: eight bytes at a time, which is enough to tell a text from itself with
/// something missing, and costs next to nothing for each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    sum: u64,
    /// The last bytes, until there are eight of them.
    rest: u64,
    /// How many there are in `rest`. < 8.
    filled: u32,
}

impl Mark {
    const EMPTY: Self = Self { sum: 0xcbf2_9ce4_8422_2325, rest: 0, filled: 0 };

    #[inline]
    fn add(&mut self, text: &str) {
        let mut words = text.as_bytes().chunks_exact(8);
        for word in words.by_ref() {
            self.push(word.try_into().map_or(0, u64::from_le_bytes), 8);
        }
        let last = words.remainder();
        let word = last.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        self.push(word, last.len() as u32);
    }

    /// Adds the first `count` bytes of a word, at most all eight. The others are 0.
    #[inline]
    fn push(&mut self, word: u64, count: u32) {
        let shift = 8 * self.filled;
        self.rest |= word << shift;
        self.filled += count;
        if self.filled >= 8 {
            self.mix(self.rest);
            self.filled -= 8;
            // What found no room: nothing if there was room for a whole word, and a shift by 64 is none.
            self.rest = word >> 1 >> (63 - shift);
        }
    }

    fn mix(&mut self, word: u64) {
        self.sum = (self.sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn of(text: &str) -> Self {
        let mut mark = Self::EMPTY;
        mark.add(text);
        mark
    }

    /// All of it in one number.
    fn number(mut self) -> u64 {
        self.mix(self.rest);
        self.mix(u64::from(self.filled));
        self.sum
    }
}

/// What the messages and plans that are being written add up to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// The one that was written to last: nearly always the only one.
    last: Option<Open>,
    /// The others, oldest first.
    others: Vec<Open>,
    is_given_up: bool,
}

#[derive(Clone, Debug)]
struct Open {
    item: ItemId,
    length: usize,
    mark: Mark,
}

impl Written {
    /// Adds a piece.
    pub(crate) fn add(&mut self, item: &ItemId, text: &str) {
        if self.is_given_up {
            return;
        }
        // The deltas of an item share its name, as a rule, and then it need not be read.
        let is_last = self.last.as_ref().is_some_and(|open| open.item.is_shared_with(item) || open.item == *item);
        if !is_last {
            self.switch_to(item);
        }
        if let Some(Open { length, mark, .. }) = &mut self.last {
            *length += text.len();
            mark.add(text);
        }
    }

    #[cold]
    fn switch_to(&mut self, item: &ItemId) {
        let known = self.others.iter().position(|open| open.item == *item).map(|place| self.others.remove(place));
        let next = known.unwrap_or_else(|| Open { item: item.clone(), length: 0, mark: Mark::EMPTY });
        self.others.extend(self.last.replace(next));
        if self.others.len() >= MAX_OPEN {
            self.others.remove(0);
        }
    }

    /// Whether the pieces of an item, if there were any, are this text.
    pub(crate) fn is_text(&mut self, item: &str, text: &str) -> bool {
        let open = match &self.last {
            Some(last) if last.item == item => self.last.take(),
            _ => self.others.iter().position(|open| open.item == item).map(|place| self.others.remove(place)),
        };
        open.is_none_or(|open| open.length == text.len() && open.mark == Mark::of(text))
    }

    /// Pieces were lost here, so nothing can be said any more.
    pub(crate) fn give_up(&mut self) {
        *self = Self { is_given_up: true, ..Self::default() };
    }
}

/// The text of a completed message or plan.
pub(crate) fn text_of_item(params: JsonText<'_>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        item: Item<'a>,
    }
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
        #[serde(borrow)]
        text: Option<Cow<'a, str>>,
    }
    let Params { item } = serde_json::from_str(params.get()).ok()?;
    matches!(&*item.r#type, "agentMessage" | "plan").then_some(item.text)?
}

/// The type of an item that began.
pub(crate) fn kind_of_item(params: JsonText<'_>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        item: Item<'a>,
    }
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_str::<Params<'_>>(params.get()).ok().map(|params| params.item.r#type)
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// `None` for a list without any text: it can be told from no other such.
fn mark_of(parts: &[Part<'_>]) -> Option<u64> {
    let mut mark = Mark::EMPTY;
    let mut any = false;
    for text in parts.iter().filter_map(|part| part.text.as_ref()) {
        mark.add(text);
        mark.add("\u{0}");
        any = true;
    }
    any.then_some(mark.number())
}

/// What the input of a `turn/start` says.
pub(crate) fn mark_of_input(params: &Json) -> Option<u64> {
    #[derive(Deserialize)]
    struct Start<'a> {
        #[serde(borrow)]
        input: Vec<Part<'a>>,
    }
    serde_json::from_str::<Start<'_>>(params.as_str()).ok().and_then(|start| mark_of(&start.input))
}

/// What a `userMessage` says, from the params of the event that it comes with.
pub(crate) fn mark_of_message(params: JsonText<'_>) -> Option<u64> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        item: Item<'a>,
    }
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
        #[serde(borrow)]
        content: Option<Vec<Part<'a>>>,
    }
    let Params { item } = serde_json::from_str::<Params<'_>>(params.get()).ok()?;
    (item.r#type == "userMessage").then_some(())?;
    mark_of(&item.content?)
}

#[cfg(test)]
mod tests {
    use super::Mark;

    #[test]
    fn a_text_has_the_same_mark_however_it_is_cut_and_another_has_another() {
        let text = "Ünïcode ✓ and some more, so that it is longer than a few words of eight bytes.";
        let whole = Mark::of(text);
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            for next in (cut..=text.len()).filter(|next| text.is_char_boundary(*next)) {
                let mut mark = Mark::EMPTY;
                [&text[..cut], &text[cut..next], &text[next..]].iter().for_each(|piece| mark.add(piece));
                assert_eq!(mark, whole, "cut at {cut} and {next}");
                if cut < next {
                    let mut without = Mark::of(&text[..cut]);
                    without.add(&text[next..]);
                    assert_ne!(without.number(), whole.number(), "without {cut}..{next}");
                }
            }
        }
        assert_ne!(Mark::of("a\0").number(), Mark::of("a").number());
    }
}
