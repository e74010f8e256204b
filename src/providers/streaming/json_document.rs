//! Boundaries of JSON documents in a stream body.

/// What there is to do after a look at some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A document is complete: see [`Plain::document`].
    Document,
    /// All bytes were taken.
    Nothing,
    /// It grows beyond all bounds.
    TooLarge,
}

/// Takes bytes apart into documents: one whole answer, the elements of one list (Gemini without `alt=sse`), or one a
/// line (Ollama).
#[derive(Debug, Default)]
pub(super) struct Plain {
    buffer: Vec<u8>,
    depth: usize,
    in_text: bool,
    escaped: bool,
    handed_out: bool,
    is_list: bool,
    is_closed: bool,
}

impl Plain {
    /// Looks at the next bytes up to the end of a document of at most `largest` bytes, and takes those it has seen.
    pub(super) fn take(&mut self, bytes: &mut &[u8], largest: usize) -> Found {
        if std::mem::take(&mut self.handed_out) {
            self.buffer.clear();
        }
        let mut seen = 0;
        let mut over = false;
        let mut from = 0;
        for &byte in *bytes {
            seen += 1;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                // Between documents: blanks, the list around them and its commas.
                b'[' if self.depth == 0 => (self.is_list, from) = (true, seen),
                b'{' if self.depth == 0 => (self.depth, from) = (1, seen - 1),
                _ if self.depth == 0 => {
                    self.is_closed |= byte == b']';
                    from = seen;
                }
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        over = true;
                        break;
                    }
                }
                _ => {}
            }
        }
        let (part, rest) = bytes.split_at(seen);
        *bytes = rest;
        self.buffer.extend_from_slice(&part[from..]);
        self.handed_out = over;
        match over {
            _ if self.buffer.len() > largest => Found::TooLarge,
            true => Found::Document,
            false => Found::Nothing,
        }
    }

    /// The document that is complete, or what there is of it.
    pub(super) fn document(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether the list that the documents stand in is over.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether documents stand in a list.
    pub(super) fn is_list(&self) -> bool {
        self.is_list
    }
}
