//! The simulator's server: sockets and connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::{Answer, Fault, IncomingRequest, Ticket};
use super::control;
use super::decide::Simulator;
use super::http::{Arrival, Bad, arrival, write_head};
use super::request::Request;
use super::settings::{FaultRule, SettingsError, SimulatorSettings};
use super::shared::Shared;
use super::stats::{Stats, TimelineEntry};
use super::stream_sending;

const BLOCK: usize = 64 * 1024;

/// Why the simulator could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// It knows keys and asks no questions, so it listens on this machine only.
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    Bind(SocketAddr, io::Error),
    /// The settings cannot be played.
    Settings(SettingsError),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::NotLoopback(address) => {
                write!(
                    f,
                    "the simulator listens on loopback only, and {address} is not (use 127.0.0.1)"
                )
            }
            ServeError::Bind(address, error) => {
                write!(f, "the simulator cannot listen on {address}: {error}")
            }
            ServeError::Settings(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::NotLoopback(_) => None,
            ServeError::Bind(_, error) => Some(error),
            ServeError::Settings(error) => Some(error),
        }
    }
}

/// A simulator that listens; it stops when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; with the port that the system chose when 0 was asked for.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Running {
    /// Closes the listener and all connections, and waits until they are closed.
    pub async fn stop(self) {
        // Sending fails when the task is already gone; then there is nothing to stop.
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.shared.simulator.lock().stats()
    }

    /// The newest requests, oldest first.
    pub fn timeline(&self) -> Vec<TimelineEntry> {
        self.shared.simulator.lock().timeline()
    }

    /// Adds rules behind those there are.
    pub fn add_faults(&self, rules: Vec<FaultRule>) -> Result<(), SettingsError> {
        self.shared.simulator.lock().add_faults(rules)
    }
}

/// Starts a simulator on a loopback address, within the current tokio runtime.
///
/// Besides the providers' paths there are `GET /health`, `GET /stats` (with `?timeline=true` also who came when) and
/// `POST /control` with `{"faults": […], "clear_faults": true, "reset_stats": true}`, each optional.
pub async fn serve(settings: SimulatorSettings, addr: SocketAddr) -> Result<Running, ServeError> {
    if !addr.ip().is_loopback() {
        return Err(ServeError::NotLoopback(addr));
    }
    let simulator = Simulator::new(settings).map_err(ServeError::Settings)?;
    let listener = TcpListener::bind(addr).await.map_err(|error| ServeError::Bind(addr, error))?;
    let addr = listener.local_addr().map_err(|error| ServeError::Bind(addr, error))?;
    let shared = Arc::new(Shared::new(simulator));
    let (stop, stopped) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
    Ok(Running { addr, shared, stop, accepting })
}

/// Accepts until it is stopped; the connections end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        // A client may go away in the middle.
                        let _ = converse(stream, &shared).await;
                    });
                }
                // Out of file descriptors, for instance: give others time to close theirs.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    connections.shutdown().await;
}

/// Serves one connection to its end.
async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    let mut out = Vec::with_capacity(2 * 1024);
    let mut welcomed = false;
    loop {
        let (answer, length, stays) = match arrival(&buffer) {
            Ok(Arrival::Whole { head, body, length }) => {
                let request = IncomingRequest {
                    method: head.method,
                    path: head.path,
                    headers: &head.headers,
                    body: &body,
                };
                (answer_to(&request, shared), length, head.stays)
            }
            Ok(Arrival::Partial { expects }) => {
                if expects && !welcomed {
                    welcomed = true;
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                continue;
            }
            Err(bad) => {
                let status = if bad == Bad::TooLarge { 413 } else { 400 };
                write_head(&mut out, &Answer::json(status, Vec::new()), Some(0), false);
                return stream.write_all(&out).await;
            }
        };
        welcomed = false;
        buffer.drain(..length);
        // Whatever happens to the connection, the request leaves its slot.
        let mut slot = Slot { ticket: answer.ticket, shared };
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        if let Some(streamed) = answer.stream.as_ref().filter(|_| answer.is_sent_as_stream()) {
            let leave = || slot.leave();
            if stream_sending::send(&mut stream, &answer, streamed, stays, &mut buffer, leave)
                .await?
                && stays
            {
                continue;
            }
            return Ok(());
        }
        if !matches!(answer.fault, Some(Fault::Hang)) {
            slot.leave();
        }
        out.clear();
        let stays = send(&mut stream, &answer, stays, &mut out).await? && stays;
        if !stays {
            return Ok(());
        }
    }
}

/// A request in flight.
struct Slot<'s> {
    ticket: Option<Ticket>,
    shared: &'s Shared,
}

impl Slot<'_> {
    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.simulator.lock().finished(ticket, self.shared.clock.now());
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

fn answer_to(request: &IncomingRequest<'_>, shared: &Shared) -> Answer {
    if let Some(answer) = control::answer(request, shared) {
        return answer;
    }
    let asked = Request::read(&shared.directory, request);
    let decision = {
        let mut simulator = shared.simulator.lock();
        // The clock is read under the lock, so that the simulator never sees time go back.
        let now = shared.clock.now();
        simulator.decide(&asked, now)
    };
    decision.into_answer(&asked)
}

/// Sends an answer with whatever is wrong with it; `false` when the connection is over.
async fn send(
    stream: &mut TcpStream,
    answer: &Answer,
    stays: bool,
    out: &mut Vec<u8>,
) -> io::Result<bool> {
    let length = match answer.fault {
        Some(Fault::Huge(bytes)) => bytes,
        _ => answer.body.len() as u64,
    };
    write_head(out, answer, Some(length), stays);
    match answer.fault {
        None => {
            out.extend_from_slice(&answer.body);
            stream.write_all(out).await?;
            Ok(true)
        }
        Some(Fault::HalfBody) => {
            out.extend_from_slice(&answer.body[..answer.body.len() / 2]);
            stream.write_all(out).await?;
            stream.shutdown().await?;
            Ok(false)
        }
        Some(Fault::ResetBeforeAnswer | Fault::ResetAfterBody) => {
            // Closing without lingering sends a reset instead of an orderly end.
            stream.set_zero_linger()?;
            Ok(false)
        }
        Some(Fault::Hang) => {
            let mut ignored = [0; 1024];
            while stream.read(&mut ignored).await? > 0 {}
            Ok(false)
        }
        Some(Fault::Huge(bytes)) => {
            stream.write_all(out).await?;
            let block = vec![b' '; BLOCK];
            let mut left = bytes;
            while left > 0 {
                let part = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
                stream.write_all(&block[..part]).await?;
                left -= part as u64;
            }
            Ok(true)
        }
    }
}
