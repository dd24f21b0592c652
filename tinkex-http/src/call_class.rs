//! Classes of calls, so that one kind of traffic cannot starve another.

/// What kind of call a request is. It travels with the request, as an extension, down to the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallClass {
    /// An ordinary call: answered as fast as the server can.
    #[default]
    Normal,
    /// The server may hold the call for up to 45 s on purpose. Its time-out means "not yet".
    LongPoll,
    /// A call with a large request body (prompts, batches).
    Upload,
    /// A small periodic call that must get through whatever the other classes do: heartbeats, configuration.
    Control,
}

impl CallClass {
    /// All classes, in the order of [`CallClass::index`].
    pub const ALL: [Self; 4] = [Self::Normal, Self::LongPoll, Self::Upload, Self::Control];

    /// A dense number, for tables with one entry a class.
    pub fn index(self) -> usize {
        self as usize
    }
}
