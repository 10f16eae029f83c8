//! The shapes that the generated files are written in.
//!
//! Every function is `#[inline]`, not to be inlined but to be compiled where it is used: a program pays for the types
//! that it touches, not for the eight hundred that there are.

/// The standard traits that every type of the protocol has through [`Wire`](super::Wire).
macro_rules! wire_traits {
    ($type:ident) => {
        impl core::fmt::Debug for $type {
            #[inline]
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $crate::protocol::wire::debug(stringify!($type), self, f)
            }
        }

        impl serde::Serialize for $type {
            #[inline]
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::protocol::wire::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            #[inline]
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::protocol::wire::deserialize(deserializer)
            }
        }
    };
}

/// The table of an object's members: the field, its name on the wire, and what is special about it.
macro_rules! object {
    (@required required) => { true };
    (@required $other:ident) => { false };
    (@experimental experimental) => { true };
    (@experimental $other:ident) => { false };
    ($type:ident { $($field:ident $name:literal $($flag:ident)* $(>= $since:literal)?,)* }) => {
        impl $crate::protocol::wire::Wire for $type {
            #[inline]
            fn fill(
                &mut self,
                reader: &mut $crate::protocol::wire::Reader<'_>,
            ) -> $crate::protocol::wire::Outcome {
                reader.members(Self::MEMBERS, &mut [$(&mut self.$field),*])
            }

            #[inline]
            fn put(&self, writer: &mut $crate::protocol::wire::Writer) {
                writer.members(Self::MEMBERS, &[$(&self.$field),*]);
            }
        }

        impl $type {
            const MEMBERS: &'static [$crate::protocol::wire::Member] = &[$(
                $crate::protocol::wire::Member {
                    name: $name,
                    required: false $(|| object!(@required $flag))*,
                    experimental: false $(|| object!(@experimental $flag))*,
                    since: object!(@since $($since)?),
                },
            )*];
        }

        wire_traits! { $type }
    };
    (@since) => { None };
    (@since $since:literal) => { Some($since) };
}

/// What one who sends a value must know of the server: `"name" experimental >= "version"`.
macro_rules! gate {
    ($name:literal $($flag:ident)? $(>= $since:literal)?) => {
        $crate::protocol::wire::Gate {
            name: $name,
            experimental: false $(|| object!(@experimental $flag))?,
            since: object!(@since $($since)?),
        }
    };
}

/// An open set of words.
macro_rules! words {
    (
        $(#[$doc:meta])*
        $type:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal $(gated($($gate:tt)*))?,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$word_doc])* $word,)*
            /// A word that is not in the schema; never one of those above. Written back unchanged.
            Unknown(alloc::boxed::Box<str>),
        }

        impl $type {
            /// The word as it goes over the wire.
            #[must_use]
            #[inline]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$word => $text,)*
                    Self::Unknown(word) => word,
                }
            }
        }

        impl From<&str> for $type {
            #[inline]
            fn from(word: &str) -> Self {
                match word {
                    $($text => Self::$word,)*
                    _ => Self::Unknown(word.into()),
                }
            }
        }

        impl Default for $type {
            /// No word at all.
            #[inline]
            fn default() -> Self {
                Self::Unknown(alloc::boxed::Box::default())
            }
        }

        impl core::fmt::Display for $type {
            #[inline]
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::protocol::wire::Wire for $type {
            #[inline]
            fn fill(
                &mut self,
                reader: &mut $crate::protocol::wire::Reader<'_>,
            ) -> $crate::protocol::wire::Outcome {
                if !reader.null() {
                    *self = Self::from(&*reader.string()?);
                }
                Ok(())
            }

            #[inline]
            fn put(&self, writer: &mut $crate::protocol::wire::Writer) {
                $($(
                    if *self == Self::$word {
                        writer.gate(gate!($($gate)*));
                    }
                )?)*
                writer.word(self.as_str());
            }
        }

        wire_traits! { $type }
    };
}

/// Objects told apart by the member that is their tag.
macro_rules! union {
    (
        $(#[$doc:meta])*
        $type:ident by $tag:literal or $unknown:ident, $undecodable:ident {
            $($(#[$variant_doc:meta])* $variant:ident($value:ident) = $kind:literal $(gated($($gate:tt)*))?,)*
        }
        units { $($(#[$unit_doc:meta])* $unit:ident = $unit_kind:literal $(gated($($unit_gate:tt)*))?,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq)]
        #[non_exhaustive]
        #[allow(clippy::large_enum_variant)]
        pub enum $type {
            $($(#[$variant_doc])* $variant($value),)*
            $($(#[$unit_doc])* $unit,)*
            /// A kind that is not in the schema.
            Unknown($crate::protocol::wire::$unknown),
            /// A value that does not fit its kind.
            Undecodable($crate::protocol::wire::$undecodable),
        }

        impl $type {
            #[doc = concat!("The tag (`", $tag, "`); empty when a value that does not decode has none.")]
            #[must_use]
            #[inline]
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $kind,)*
                    $(Self::$unit => $unit_kind,)*
                    Self::Unknown(unknown) => &unknown.kind,
                    Self::Undecodable(undecodable) => &undecodable.kind,
                }
            }
        }

        impl Default for $type {
            /// Nothing: an unknown value that is `null`.
            #[inline]
            fn default() -> Self {
                Self::Unknown(Default::default())
            }
        }

        $(impl From<$value> for $type {
            #[inline]
            fn from(value: $value) -> Self {
                Self::$variant(value)
            }
        })*

        impl $crate::protocol::wire::Wire for $type {
            #[inline]
            fn fill(
                &mut self,
                reader: &mut $crate::protocol::wire::Reader<'_>,
            ) -> $crate::protocol::wire::Outcome {
                *self = $crate::protocol::wire::decode_variant(
                    reader,
                    $tag,
                    |kind, _reader| Some(match kind {
                        $($kind => {
                            let mut value = $value::default();
                            value.fill(_reader).map(|()| Self::$variant(value))
                        })*
                        $($unit_kind => Ok(Self::$unit),)*
                        _ => return None,
                    }),
                    Self::Unknown,
                    Self::Undecodable,
                )?;
                Ok(())
            }

            #[inline]
            fn put(&self, writer: &mut $crate::protocol::wire::Writer) {
                match self {
                    $(Self::$variant(value) => {
                        $(writer.gate(gate!($($gate)*));)?
                        writer.tagged($tag, $kind, value);
                    })*
                    $(Self::$unit => {
                        $(writer.gate(gate!($($unit_gate)*));)?
                        writer.single($tag, &$crate::protocol::wire::Word($unit_kind));
                    })*
                    Self::Unknown(unknown) => writer.kept("unknown", &unknown.kind, &unknown.raw),
                    Self::Undecodable(undecodable) => {
                        writer.kept("undecodable", &undecodable.kind, &undecodable.raw);
                    },
                }
            }
        }

        wire_traits! { $type }
    };
}

/// Words, some of which carry a value: `"word"` or `{"word": value}`.
macro_rules! mixed {
    (
        $(#[$doc:meta])*
        $type:ident {
            $($(#[$word_doc:meta])* $word:ident = $text:literal $(gated($($word_gate:tt)*))?,)*
        }
        values {
            $($(#[$variant_doc:meta])* $variant:ident($value:ty) = $name:literal $(gated($($gate:tt)*))?,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$word_doc])* $word,)*
            $($(#[$variant_doc])* $variant($value),)*
            /// A form that is not in the schema, or does not fit it. Written back unchanged.
            Unknown($crate::json::Json),
        }

        impl $type {
            /// The word, or the name of the value; empty for an unknown form that is neither.
            #[must_use]
            #[inline]
            pub fn kind(&self) -> alloc::borrow::Cow<'_, str> {
                match self {
                    $(Self::$word => $text.into(),)*
                    $(Self::$variant(_) => $name.into(),)*
                    Self::Unknown(raw) => $crate::protocol::wire::kind_of(raw.as_str()),
                }
            }
        }

        impl From<&str> for $type {
            #[inline]
            fn from(word: &str) -> Self {
                match word {
                    $($text => Self::$word,)*
                    _ => Self::Unknown($crate::json::Json::string(word)),
                }
            }
        }

        impl Default for $type {
            /// Nothing: an unknown form that is `null`.
            #[inline]
            fn default() -> Self {
                Self::Unknown($crate::json::Json::null())
            }
        }

        impl $crate::protocol::wire::Wire for $type {
            #[inline]
            fn fill(
                &mut self,
                reader: &mut $crate::protocol::wire::Reader<'_>,
            ) -> $crate::protocol::wire::Outcome {
                if reader.peek() == Some(b'"') {
                    *self = Self::from(&*reader.string()?);
                    return Ok(());
                }
                let raw = reader.raw()?;
                *self = $crate::protocol::wire::decode_named(raw, |name, _reader| Some(match name {
                    $($name => {
                        let mut value = <$value>::default();
                        $crate::protocol::wire::Wire::fill(&mut value, _reader).map(|()| Self::$variant(value))
                    })*
                    _ => return None,
                })).map_or_else(|| $crate::protocol::wire::json(raw).map(Self::Unknown), Ok)?;
                Ok(())
            }

            #[inline]
            fn put(&self, writer: &mut $crate::protocol::wire::Writer) {
                match self {
                    $(Self::$word => {
                        $(writer.gate(gate!($($word_gate)*));)?
                        writer.word($text);
                    })*
                    $(Self::$variant(value) => {
                        $(writer.gate(gate!($($gate)*));)?
                        writer.single($name, value);
                    })*
                    Self::Unknown(raw) => writer.kept("unknown", "form", raw),
                }
            }
        }

        wire_traits! { $type }
    };
}

/// A request: its method, what answers it, and which servers take it.
macro_rules! request {
    ($type:ident = $method:literal -> $response:ident $($flag:ident)? $(>= $since:literal)?) => {
        impl $crate::protocol::Request for $type {
            const METHOD: &'static str = $method;
            const EXPERIMENTAL: bool = false $(|| object!(@experimental $flag))?;
            const SINCE: Option<&'static str> = object!(@since $($since)?);
            type Response = $response;

            #[inline]
            fn decode_response(text: &str) -> Result<$response, $crate::protocol::wire::DecodeError> {
                $crate::protocol::wire::read(text)
            }

            #[inline]
            fn experimental_fields(&self) -> alloc::vec::Vec<&'static str> {
                $crate::protocol::wire::experimental_fields(self)
            }

            #[inline]
            fn newer_fields(&self) -> alloc::vec::Vec<(&'static str, &'static str)> {
                $crate::protocol::wire::newer_fields(self)
            }
        }
    };
}

/// What one builds: `new` with what must be there, and one setter for each member that need not.
macro_rules! build {
    (
        $type:ident new($($first:ident: $how:ident $first_type:ty,)*) {
            $($field:ident: $kind:ident $field_type:ty,)*
        }
    ) => {
        impl $type {
            #[doc = concat!("With what `", stringify!($type), "` cannot do without.")]
            #[must_use]
            #[inline]
            pub fn new($($first: build!(@argument $how $first_type)),*) -> Self {
                Self { $($first: build!(@value $how $first),)* ..Self::default() }
            }

            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use]
                #[inline]
                pub fn $field(mut self, value: build!(@argument $kind $field_type)) -> Self {
                    self.$field = build!(@some $kind value);
                    self
                }
            )*
        }
    };
    (@argument into $type:ty) => { impl Into<$type> };
    (@argument plain $type:ty) => { $type };
    (@argument many $type:ty) => { impl IntoIterator<Item: Into<$type>> };
    (@argument map $type:ty) => { impl IntoIterator<Item = (impl Into<alloc::string::String>, impl Into<$type>)> };
    (@argument settable $type:ty) => { impl Into<$crate::protocol::wire::Settable<$type>> };
    (@value into $value:ident) => { $value.into() };
    (@value plain $value:ident) => { $value };
    (@value many $value:ident) => { $value.into_iter().map(Into::into).collect() };
    (@value map $value:ident) => { $value.into_iter().map(|(key, value)| (key.into(), value.into())).collect() };
    (@some settable $value:ident) => { $value.into() };
    (@some $kind:ident $value:ident) => { Some(build!(@value $kind $value)) };
}

/// A notification: its method.
macro_rules! notification {
    ($type:ident = $method:literal $($flag:ident)?) => {
        impl $crate::protocol::Notification for $type {
            const METHOD: &'static str = $method;
            const EXPERIMENTAL: bool = false $(|| object!(@experimental $flag))?;
        }
    };
}

/// A request of the server: its method and what answers it.
macro_rules! server_request {
    ($type:ident = $method:literal -> $response:ident $($flag:ident)?) => {
        impl $crate::protocol::ServerRequest for $type {
            const METHOD: &'static str = $method;
            const EXPERIMENTAL: bool = false $(|| object!(@experimental $flag))?;
            type Response = $response;
        }
    };
}

/// The enum of everything the server sends of one sort.
macro_rules! by_method {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident($type:ident) = $method:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq)]
        #[non_exhaustive]
        #[allow(clippy::large_enum_variant)]
        pub enum $enum {
            $(
                #[doc = concat!("`", $method, "`")]
                $variant($type),
            )*
            /// A method that is not in the schema.
            Unknown {
                /// The method.
                method: alloc::boxed::Box<str>,
                /// Its parameters, as they came.
                params: $crate::json::Json,
            },
        }

        impl $enum {
            /// Every method that has a variant of its own.
            pub const METHODS: &'static [&'static str] =
                &[$($method),*];

            /// Decodes the parameters of a method. A method that is not in the schema is no error.
            ///
            /// # Errors
            /// When the parameters do not fit a method that is.
            #[inline]
            pub fn decode(method: &str, params: &str) -> Result<Self, $crate::protocol::wire::DecodeError> {
                match method {
                    $($method => $crate::protocol::wire::read(params).map(Self::$variant),)*
                    _ => Ok(Self::Unknown { method: method.into(), params: $crate::protocol::wire::json(params)? }),
                }
            }

            /// The method on the wire.
            #[must_use]
            #[inline]
            pub fn method(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $method,)*
                    Self::Unknown { method, .. } => method,
                }
            }

            /// The parameters as JSON.
            #[must_use]
            #[inline]
            pub fn params(&self) -> $crate::json::Json {
                let value: &dyn $crate::protocol::wire::Wire = match self {
                    $(Self::$variant(params) => params,)*
                    Self::Unknown { params, .. } => params,
                };
                $crate::protocol::wire::to_json(value)
            }
        }

        impl core::fmt::Debug for $enum {
            #[inline]
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let value: &dyn $crate::protocol::wire::Wire = match self {
                    $(Self::$variant(params) => params,)*
                    Self::Unknown { params, .. } => params,
                };
                $crate::protocol::wire::debug(self.method(), value, f)
            }
        }
    };
}

macro_rules! server_notifications {
    ($($variant:ident($type:ident) = $method:literal,)*) => {
        by_method! {
            /// Any notification of the server.
            ServerNotification { $($variant($type) = $method,)* }
        }
    };
}

macro_rules! server_requests {
    ($($variant:ident($type:ident) = $method:literal,)*) => {
        by_method! {
            /// Any request of the server.
            ServerRequestParams { $($variant($type) = $method,)* }
        }
    };
}

macro_rules! client_requests {
    ($($type:ident,)*) => {
        /// Every request of the client that this crate has a type for.
        pub const CLIENT_REQUESTS: &[$crate::protocol::MethodInfo] = &[$(
            $crate::protocol::MethodInfo {
                method: <$type as $crate::protocol::Request>::METHOD,
                experimental: <$type as $crate::protocol::Request>::EXPERIMENTAL,
                since: <$type as $crate::protocol::Request>::SINCE,
            },
        )*];

        /// Hands the type of a request to a visitor, for programs that meet requests by their method: test kits,
        /// proxies, recorders. `None` when the method is not in the schema.
        #[inline]
        pub fn visit_request<V: $crate::protocol::RequestVisitor>(method: &str, visitor: V) -> Option<V::Output> {
            match method {
                $(<$type as $crate::protocol::Request>::METHOD => Some(visitor.visit::<$type, _>()),)*
                _ => None,
            }
        }
    };
}
