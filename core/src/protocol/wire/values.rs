//! The values that members have: text, numbers, ids, raw JSON, and the containers of these.

use super::reader::{Failure, Step};
use super::{Outcome, Reader, Wire, Writer};
use crate::{
    id::{ItemId, RequestId, ThreadId, TurnId},
    json::Json,
};
use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};

impl Wire for String {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if !reader.null() {
            *self = reader.string()?.into_owned();
        }
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        writer.string(self);
    }
}

impl Wire for bool {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if !reader.null() {
            *self = reader.boolean()?;
        }
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        writer.plain(format_args!("{self}"));
    }
}

macro_rules! integers {
    ($($int:ty)*) => {$(
        impl Wire for $int {
            fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
                if !reader.null() {
                    *self = match reader.number()? {
                        // As serde_json has it, minus zero is no integer.
                        ("-0", _) => return Err(Failure::new("expected an integer")),
                        (text, true) => text.parse().map_err(|_| Failure::new("a number out of range"))?,
                        (_, false) => return Err(Failure::new("expected an integer")),
                    };
                }
                Ok(())
            }

            fn put(&self, writer: &mut Writer) {
                writer.plain(format_args!("{self}"));
            }
        }
    )*};
}

integers! { i32 i64 u16 u32 u64 }

impl Wire for f64 {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if !reader.null() {
            let (text, _) = reader.number()?;
            let value: f64 = text.parse().map_err(|_| Failure::new("expected a number"))?;
            if !value.is_finite() {
                return Err(Failure::new("a number out of range"));
            }
            *self = value;
        }
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        if self.is_finite() {
            // The debug form keeps the point of a whole number, and so its kind.
            writer.plain(format_args!("{self:?}"));
        } else {
            writer.plain(format_args!("null"));
        }
    }
}

macro_rules! ids {
    ($($id:ty)*) => {$(
        impl Wire for $id {
            fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
                *self = Self::from(&*reader.string()?);
                Ok(())
            }

            fn put(&self, writer: &mut Writer) {
                writer.word(self.as_str());
            }
        }
    )*};
}

ids! { ItemId ThreadId TurnId }

impl Wire for RequestId {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        *self = if reader.peek() == Some(b'"') {
            Self::from(&*reader.string()?)
        } else {
            match reader.number()? {
                (text, true) => Self::Number(text.parse().map_err(|_| Failure::new("a number out of range"))?),
                (_, false) => return Err(Failure::new("expected an integer or a string")),
            }
        };
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        match self {
            Self::Number(number) => writer.plain(format_args!("{number}")),
            Self::Text(text) => writer.word(text),
        }
    }
}

impl Wire for Json {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        *self = json(reader.raw()?)?;
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        writer.raw(self.as_str());
    }
}

/// Keeps text that a reader has passed.
pub(crate) fn json(text: &str) -> Outcome<Json> {
    Json::parse(text).map_err(|_| Failure::new("expected a value"))
}

impl<T: Wire + Default> Wire for Option<T> {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if reader.null() {
            *self = None;
        } else {
            self.insert(T::default()).fill(reader)?;
        }
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        if let Some(value) = self {
            value.put(writer);
        }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        (**self).fill(reader)
    }

    fn put(&self, writer: &mut Writer) {
        (**self).put(writer);
    }
}

impl<T: Wire + Default> Wire for Vec<T> {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if reader.null() {
            return Ok(());
        }
        reader.array(&mut |reader, _| {
            let mut entry = T::default();
            entry.fill(reader)?;
            self.push(entry);
            Ok(())
        })
    }

    fn put(&self, writer: &mut Writer) {
        writer.array(&mut self.iter().map(|entry| entry as &dyn Wire));
    }
}

impl<T: Wire + Default> Wire for BTreeMap<String, T> {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if reader.null() {
            return Ok(());
        }
        let mut at = 0;
        reader.object(|reader, key| {
            let mut entry = T::default();
            entry.fill(reader).map_err(|failure| failure.at(Step::Entry(at)))?;
            at += 1;
            self.insert(key.into_owned(), entry);
            Ok(())
        })
    }

    fn put(&self, writer: &mut Writer) {
        writer.map(&mut self.iter().map(|(key, value)| (key.as_str(), value as &dyn Wire)));
    }
}
