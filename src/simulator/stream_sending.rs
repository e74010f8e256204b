//! Sending of a stream, with its pauses and faults.

use std::io::{self, Write as _};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::{Answer, Fault, Streamed};
use super::http::write_head;

/// So much is sent at once when nothing asks for a pause.
const BLOCK: usize = 64 * 1024;

/// Sends a stream in HTTP's chunks, one for each event; `false` when the connection is over.
///
/// `leave` is called before the last bytes, so that the client that has them finds the slot free. What the client sends
/// during the stream goes to `buffer`.
pub(super) async fn send(
    stream: &mut TcpStream,
    answer: &Answer,
    streamed: &Streamed,
    stays: bool,
    buffer: &mut Vec<u8>,
    leave: impl FnOnce(),
) -> io::Result<bool> {
    let mut out = Vec::with_capacity(BLOCK.min(answer.body.len() * 2) + 1024);
    write_head(&mut out, answer, None, stays);
    let half = answer.fault == Some(Fault::HalfBody);
    let whole = if half { answer.body.len() / 2 } else { answer.body.len() };
    let mut pauses = streamed.pauses.iter().peekable();
    let mut start = 0;
    for end in &streamed.ends {
        while let Some((_, pause)) = pauses.next_if(|(at, _)| *at <= start) {
            stream.write_all(&out).await?;
            out.clear();
            wait(stream, *pause, buffer).await?;
        }
        if out.len() > BLOCK {
            stream.write_all(&out).await?;
            out.clear();
        }
        let end = (*end).min(whole);
        if end > start {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{:x}\r\n", end - start);
            out.extend_from_slice(&answer.body[start..end]);
            out.extend_from_slice(b"\r\n");
        }
        start = start.max(end);
    }
    leave();
    match answer.fault {
        Some(Fault::ResetAfterBody) => {
            stream.write_all(&out).await?;
            // A reset overtakes what was sent: the client is given time to read that first.
            wait(stream, Duration::from_millis(20), buffer).await?;
            stream.set_zero_linger()?;
            Ok(false)
        }
        Some(Fault::HalfBody) => {
            stream.write_all(&out).await?;
            stream.shutdown().await?;
            Ok(false)
        }
        _ => {
            out.extend_from_slice(b"0\r\n\r\n");
            stream.write_all(&out).await?;
            Ok(true)
        }
    }
}

/// Waits, unless the client goes away.
async fn wait(stream: &mut TcpStream, pause: Duration, buffer: &mut Vec<u8>) -> io::Result<()> {
    let over = tokio::time::sleep(pause);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return Ok(()),
            read = stream.read_buf(buffer) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}
