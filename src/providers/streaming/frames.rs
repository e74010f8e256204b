//! Server-sent events: splits a body that arrives in arbitrary parts.

/// An event that is larger than this is none.
pub(super) const LARGEST_EVENT: usize = 8 << 20;

/// The bytes of a byte order mark, which may stand before everything.
const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// The fields of an event that mean something here.
const FIELDS: [&str; 5] = ["data", "event", "error", "id", "retry"];

/// What there is to do after a look at some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An event is complete: see [`Frames::name`] and [`Frames::data`].
    Event,
    /// All bytes were taken and no event is complete.
    Nothing,
    /// This is no stream of events but JSON, from the bytes on that were left.
    Json,
    /// An event grows beyond all bounds.
    TooLarge,
}

/// Takes bytes apart into events, by the rules of the HTML standard and with mercy for what servers make of them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// A line that is not over yet.
    line: Vec<u8>,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    /// The event in `name` and `data` was handed out and makes room for the next.
    handed_out: bool,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    /// How much of the byte order mark has been seen; beyond it: it is too late for one.
    mark: usize,
    /// Whether anything but comments and blank lines has been seen.
    begun: bool,
    /// The beginning of what was no event at all, for an error's text.
    strange: Vec<u8>,
}

impl Frames {
    /// Looks at the next bytes up to the end of an event, and takes those that it has seen.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Found {
        if self.handed_out {
            self.name.clear();
            self.data.clear();
            (self.has_data, self.handed_out) = (false, false);
        }
        while let Some(&first) = bytes.first() {
            if self.skips(first) {
                *bytes = &bytes[1..];
                continue;
            }
            if !self.begun && self.line.is_empty() && matches!(first, b'{' | b'[') {
                return Found::Json;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, rest) = match end {
                None => (*bytes, &[][..]),
                Some(end) => {
                    self.after_return = bytes[end] == b'\r';
                    (&bytes[..end], &bytes[end + 1..])
                }
            };
            *bytes = rest;
            if self.line.len() + self.data.len() + part.len() > LARGEST_EVENT {
                return Found::TooLarge;
            }
            if end.is_none() {
                self.line.extend_from_slice(part);
            } else if self.line.is_empty() {
                if self.line_over(part) {
                    return self.hand_out();
                }
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                let over = self.line_over(&line);
                line.clear();
                self.line = line;
                if over {
                    return self.hand_out();
                }
            }
        }
        Found::Nothing
    }

    /// The end of all bytes; servers forget the blank line after the last event.
    pub(super) fn end(&mut self) -> Found {
        if self.handed_out {
            return Found::Nothing;
        }
        let line = std::mem::take(&mut self.line);
        let cut_off = |field: &&str| field.as_bytes().starts_with(&line);
        if !FIELDS.iter().any(cut_off) {
            self.line_over(&line);
        }
        if self.is_event() { self.hand_out() } else { Found::Nothing }
    }

    /// The name of the event that was handed out last; empty when it has none.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its data, the lines joined.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// The beginning of what came instead of events.
    pub(super) fn strange(&self) -> &[u8] {
        &self.strange
    }

    /// Whether what was read since the last event is one; an error needs no data to be told of.
    fn is_event(&self) -> bool {
        !self.data.trim_ascii().is_empty() || self.name == "error"
    }

    fn hand_out(&mut self) -> Found {
        self.handed_out = true;
        Found::Event
    }

    /// Whether a byte says nothing where it stands.
    fn skips(&mut self, first: u8) -> bool {
        if std::mem::take(&mut self.after_return) && first == b'\n' {
            return true;
        }
        if self.mark < MARK.len() {
            if MARK[self.mark] == first {
                self.mark += 1;
                return true;
            }
            // What only began like a mark was the beginning of a line.
            self.line.extend_from_slice(&MARK[..self.mark]);
            self.mark = usize::MAX;
        }
        // Blank space before JSON; no field of an event begins with it.
        !self.begun && self.line.is_empty() && matches!(first, b' ' | b'\t')
    }

    /// Reads a line; whether an event ends with it.
    fn line_over(&mut self, line: &[u8]) -> bool {
        match line.first() {
            None if self.is_event() => return true,
            // An event without data is none.
            None => {
                self.name.clear();
                self.data.clear();
                self.has_data = false;
            }
            Some(b':') => {}
            // One line of JSON where an event should be.
            Some(b'{') => self.add(line),
            Some(_) => self.field(line),
        }
        false
    }

    fn field(&mut self, line: &[u8]) {
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.add(value),
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            // Old llama.cpp servers announce errors so.
            b"error" => {
                self.name = "error".to_owned();
                self.add(value);
            }
            b"id" | b"retry" => {}
            _ if !self.begun && self.strange.len() < 512 => {
                self.strange.extend_from_slice(&line[..line.len().min(512)]);
                return;
            }
            _ => return,
        }
        self.begun = true;
    }

    fn add(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        (self.has_data, self.begun) = (true, true);
    }
}
