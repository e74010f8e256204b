//! A minimal HTTP/1.1: request framing and response heads.
//!
//! A little HTTP/1.1 of its own, because the simulator must break the protocol on purpose, which HTTP libraries
//! rightly refuse to do.

use std::borrow::Cow;
use std::io::Write as _;

use super::answer::Answer;

/// Longer requests are refused.
const LARGEST_BODY: usize = 64 * 1024 * 1024;
const LARGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Syntax,
    TooLarge,
}

/// The bytes of one request.
#[derive(Debug, PartialEq)]
pub(super) struct Head<'b> {
    pub(super) method: &'b str,
    pub(super) path: &'b str,
    pub(super) headers: Vec<(&'b str, &'b str)>,
    /// The client wants the connection to stay.
    pub(super) stays: bool,
}

/// How far a request has come.
#[derive(Debug, PartialEq)]
pub(super) enum Arrival<'b> {
    /// More bytes are needed; `true` when the client waits to be told that its body is welcome.
    Partial { expects: bool },
    /// All of it, and how many bytes of the buffer it took.
    Whole { head: Head<'b>, body: Cow<'b, [u8]>, length: usize },
}

/// Reads the request at the start of `buffer`.
pub(super) fn arrival(buffer: &[u8]) -> Result<Arrival<'_>, Bad> {
    let mut slots = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    let head_length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() < LARGEST_HEAD => {
            return Ok(Arrival::Partial { expects: false });
        }
        Ok(httparse::Status::Partial) => return Err(Bad::TooLarge),
        Err(_) => return Err(Bad::Syntax),
    };
    let (Some(method), Some(path), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Bad::Syntax);
    };
    // A value that is not UTF-8 is no value that anyone here looks for.
    let text = |value| std::str::from_utf8(value).unwrap_or("");
    let headers: Vec<_> =
        parsed.headers.iter().map(|header| (header.name, text(header.value))).collect();
    let find = |name: &str| {
        headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    let connection = find("connection").unwrap_or("");
    let stays = match version {
        0 => connection.eq_ignore_ascii_case("keep-alive"),
        _ => !connection.eq_ignore_ascii_case("close"),
    };
    let expects = find("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
    let rest = &buffer[head_length..];
    let body = if find("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        unchunked(rest)?.map(|(body, length)| (Cow::Owned(body), length))
    } else {
        let length = find("content-length").map_or(Ok(0), str::parse).map_err(|_| Bad::Syntax)?;
        if length > LARGEST_BODY {
            return Err(Bad::TooLarge);
        }
        rest.get(..length).map(|body| (Cow::Borrowed(body), length))
    };
    let Some((body, body_length)) = body else { return Ok(Arrival::Partial { expects }) };
    let head = Head { method, path, headers, stays };
    Ok(Arrival::Whole { head, body, length: head_length + body_length })
}

/// The body in `bytes`, sent in chunks, and how many bytes it took; `None` while some are missing.
fn unchunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Bad> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Bad::Syntax),
        };
        let size = usize::try_from(size).map_err(|_| Bad::TooLarge)?;
        if body.len().saturating_add(size) > LARGEST_BODY {
            return Err(Bad::TooLarge);
        }
        let start = at + line;
        // Each chunk, the empty last one too, is followed by an end of line (trailers are not supported).
        let Some(chunk) = bytes.get(start..start + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err(Bad::Syntax);
        }
        body.extend_from_slice(&chunk[..size]);
        at = start + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

/// Appends the head of an answer whose body has `length` bytes, or comes in chunks.
pub(super) fn write_head(out: &mut Vec<u8>, answer: &Answer, length: Option<u64>, stays: bool) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !stays {
        out.extend_from_slice(b"connection: close\r\n");
    }
    let _ = match length {
        Some(length) => write!(out, "content-length: {length}\r\n\r\n"),
        None => write!(out, "transfer-encoding: chunked\r\n\r\n"),
    };
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Site is overloaded",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
        match arrival(bytes).unwrap() {
            Arrival::Whole { body, length, .. } => Some((body.into_owned(), length)),
            Arrival::Partial { .. } => None,
        }
    }

    #[test]
    fn a_request_is_whole_at_its_last_byte_and_not_before() {
        for text in [
            "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ] {
            let bytes = text.as_bytes();
            for end in 0..bytes.len() {
                assert_eq!(body_of(&bytes[..end]), None, "after {end} bytes of {text:?}");
            }
            assert_eq!(body_of(bytes), Some((b"hello".to_vec(), bytes.len())));
            let two = [bytes, bytes].concat();
            assert_eq!(body_of(&two), Some((b"hello".to_vec(), bytes.len())));
        }
    }

    #[test]
    fn connections_stay_or_close_as_the_client_says() {
        let stays = |text: &str| match arrival(text.as_bytes()).unwrap() {
            Arrival::Whole { head, .. } => head.stays,
            Arrival::Partial { .. } => panic!("partial"),
        };
        assert!(stays("GET / HTTP/1.1\r\n\r\n"));
        assert!(!stays("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert!(!stays("GET / HTTP/1.0\r\n\r\n"));
        assert!(stays("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        assert_eq!(arrival(b"\x16\x03\x01 tls"), Err(Bad::Syntax));
        assert_eq!(arrival(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n"), Err(Bad::Syntax));
        assert_eq!(
            arrival(b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n"),
            Err(Bad::TooLarge)
        );
        let waits =
            arrival(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(waits, Ok(Arrival::Partial { expects: true }));
    }
}
