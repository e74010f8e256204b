//! The transport against sockets that do exactly what a test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quotaflow::config::Timeouts;
use quotaflow::engine::{HttpTransport, Incoming, Opened, Outgoing, Transport};
use quotaflow::kernel::{Amounts, Failure, FailureClass, Scope};
use quotaflow::providers::{KeyHeader, Provider, WireResponse};
use quotaflow::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::stores::NOW;

const KEY: &str = "sk-test-planted";
const PROMPT: &str = "a planted prompt";

fn request(url: String) -> Outgoing {
    Outgoing {
        url,
        headers: vec![("content-type", "application/json".to_owned())],
        key: Some((KeyHeader::BEARER, Secret::new(KEY))),
        body: Bytes::from(format!("{{\"prompt\":\"{PROMPT}\"}}")),
        read_timeout: Duration::from_secs(20),
        is_near: false,
    }
}

async fn post(request: Outgoing) -> Result<Incoming, Failure> {
    HttpTransport::new(&Timeouts::default()).unwrap().post(request).await
}

/// Reads one request, head and body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let mut more = [0; 4_096];
        let count = stream.read(&mut more).await.unwrap();
        assert!(count > 0, "the client left in the middle of its request");
        read.extend_from_slice(&more[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
    }
}

/// A server that takes one request, hands the connection to `answer`, and tells what was asked.
async fn server<F, R>(answer: F) -> (String, JoinHandle<String>)
where
    F: FnOnce(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = read_request(&mut stream).await;
        answer(stream).await;
        asked
    });
    (url, asked)
}

/// A server that writes this and closes the connection.
async fn says(bytes: impl Into<Vec<u8>>) -> (String, JoinHandle<String>) {
    let bytes = bytes.into();
    server(|mut stream| async move { stream.write_all(&bytes).await.unwrap() }).await
}

async fn outcome(bytes: impl Into<Vec<u8>>) -> Result<Incoming, Failure> {
    let (url, _asked) = says(bytes).await;
    post(request(url)).await
}

/// What the dialect makes of an answer.
fn decoded(incoming: &Incoming) -> Failure {
    let response = WireResponse {
        status: incoming.status,
        headers: &incoming.headers,
        body: &incoming.body,
        now: NOW,
        estimate: Amounts::default(),
        model: "gpt-test",
    };
    Provider::find("openai").unwrap().decode(&response).unwrap_err()
}

fn facts(failure: &Failure) -> (FailureClass, Scope, bool, bool) {
    assert!(!failure.message.contains(KEY), "{failure:?}");
    (failure.class, failure.scope, failure.never_sent, failure.never_here)
}

#[tokio::test]
async fn the_key_is_sent_and_shown_nowhere() {
    let (url, asked) =
        says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nretry-after: 7\r\nset-cookie: a=b\r\n\r\n{}")
            .await;
    let request = request(url);
    let shown = format!("{request:?} {request:#?}");
    let incoming = post(request).await.unwrap();
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains(&format!("\r\nauthorization: bearer {KEY}\r\n")));
    assert!(asked.ends_with(&format!("{{\"prompt\":\"{PROMPT}\"}}")));
    assert_eq!((incoming.status, &incoming.body[..]), (200, &b"{}"[..]));
    assert_eq!(incoming.headers.get("retry-after"), Some("7"));
    assert_eq!(incoming.headers.get("set-cookie"), None);
    assert!(!shown.contains(KEY) && !shown.contains(PROMPT), "{shown}");
    assert!(shown.contains("authorization") && shown.contains("chat/completions"), "{shown}");
}

#[tokio::test]
async fn what_is_no_answer_of_an_api_is_a_failure_with_its_status() {
    let html = "<html><body>Bad gateway</body></html>";
    let cases = [
        (200, html, FailureClass::ServerError),
        (200, "", FailureClass::ServerError),
        (502, html, FailureClass::ServerError),
        (503, "", FailureClass::Overloaded),
        (413, html, FailureClass::InvalidRequest),
    ];
    for (status, body, class) in cases {
        let length = body.len();
        let incoming =
            outcome(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}"))
                .await
                .unwrap();
        let failure = decoded(&incoming);
        assert_eq!((failure.class, failure.status), (class, Some(status)), "{failure:?}");
        assert!(!failure.message.is_empty());
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_left_may_have_been_worked_on() {
    let broken = (FailureClass::Network, Scope::Call, false, false);
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\"";
    let half_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n50\r\n{\"choices\"";
    for answer in ["", half, half_chunk, "HTTP/1.1 200", "no HTTP at all\r\n\r\n"] {
        assert_eq!(facts(&outcome(answer).await.unwrap_err()), broken, "{answer:?}");
    }
    let (url, _asked) = server(|stream| async move { stream.set_zero_linger().unwrap() }).await;
    assert_eq!(facts(&post(request(url)).await.unwrap_err()), broken);
}

#[tokio::test]
async fn a_flood_is_refused_before_it_is_taken_in() {
    const MEGABYTE: usize = 1024 * 1024;
    const FLOOD: usize = 100 * MEGABYTE;
    let too_large = (FailureClass::ServerError, Scope::Call, false, true);
    let announced = format!("content-length: {FLOOD}");
    // With its length announced, next to nothing of it is read; without, no more than is ever believed.
    for (length, most) in [(announced.as_str(), 16), ("connection: close", 48)] {
        let sent = Arc::new(AtomicU64::new(0));
        let (counter, head) = (sent.clone(), format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n"));
        let (url, asked) = server(move |mut stream| async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            let piece = vec![b' '; 64 * 1024];
            for _ in 0..FLOOD / piece.len() {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
                counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        })
        .await;
        assert_eq!(facts(&post(request(url)).await.unwrap_err()), too_large);
        asked.await.unwrap();
        let taken = sent.load(Ordering::Relaxed) as usize / MEGABYTE;
        assert!(taken <= most, "{taken} MiB were taken with {length}");
    }
}

#[tokio::test]
async fn silence_ends_before_the_answer_and_in_its_middle() {
    let timeout = (FailureClass::Timeout, Scope::Call, false, false);
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\""] {
        let (url, asked) = server(move |mut stream| async move {
            stream.write_all(begun.as_bytes()).await.unwrap();
            // Until the client hangs up.
            let _ = stream.read(&mut [0]).await;
        })
        .await;
        let request = Outgoing { read_timeout: Duration::from_millis(150), ..request(url) };
        let failure = post(request).await.unwrap_err();
        assert_eq!(facts(&failure), timeout);
        assert!(failure.message.contains("0.15 s"), "{}", failure.message);
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn what_provably_never_left_says_so() {
    let never_sent = (FailureClass::Network, Scope::Call, true, false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let refused = post(request(format!("http://{free}/v1"))).await.unwrap_err();
    assert_eq!(facts(&refused), never_sent);
    assert!(refused.message.starts_with("the connection was refused"), "{}", refused.message);
    // A name that no server has to be asked for: none is as long as this.
    let unknown = post(request(format!("http://{}.invalid/v1", "x".repeat(70)))).await.unwrap_err();
    assert_eq!(facts(&unknown), never_sent);
    assert!(unknown.message.starts_with("the host's name was not found"), "{}", unknown.message);
    // A server that does not speak TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let tls = post(request(format!("https://{address}/v1"))).await.unwrap_err();
    plain.await.unwrap();
    assert_eq!(facts(&tls), never_sent);
    assert!(tls.message.starts_with("no secure connection could be made"), "{}", tls.message);
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_closes_only_itself() {
    let bad = Outgoing {
        key: Some((KeyHeader::ANTHROPIC, Secret::new(format!("{KEY}\n")))),
        ..request("http://127.0.0.1:9/v1".to_owned())
    };
    let failure = post(bad).await.unwrap_err();
    assert_eq!(facts(&failure), (FailureClass::Auth, Scope::Key, true, false));
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_not_tried_again() {
    let failure = post(request("not an address".to_owned())).await.unwrap_err();
    assert_eq!(facts(&failure), (FailureClass::InvalidRequest, Scope::Call, true, false));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = elsewhere.local_addr().unwrap();
    let answer =
        format!("HTTP/1.1 307 X\r\nlocation: http://{target}/v1\r\ncontent-length: 0\r\n\r\n");
    let incoming = outcome(answer).await.unwrap();
    assert_eq!(incoming.status, 307);
    let failure = decoded(&incoming);
    assert_eq!(failure.status, Some(307));
    let came = std::pin::pin!(elsewhere.accept());
    let waker = std::task::Waker::noop();
    let poll = came.poll(&mut std::task::Context::from_waker(waker));
    assert!(poll.is_pending(), "somebody came");
}

/// The head of an answer whose body comes in chunks.
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nretry-after: 7\r\n\r\n";

async fn open(request: Outgoing) -> Result<Opened, Failure> {
    HttpTransport::new(&Timeouts::default()).unwrap().open(request).await
}

#[tokio::test]
async fn a_body_is_handed_out_as_it_comes() {
    let (go_on, may_go_on) = tokio::sync::oneshot::channel();
    let (url, asked) = server(|mut stream| async move {
        stream.write_all(format!("{CHUNKED}5\r\nfirst\r\n").as_bytes()).await.unwrap();
        may_go_on.await.unwrap();
        stream.write_all(b"4\r\nrest\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    let mut opened = open(request(url)).await.unwrap();
    assert_eq!((opened.status, opened.headers.get("retry-after")), (200, Some("7")));
    assert_eq!(opened.body.next().await.unwrap().as_deref(), Some(&b"first"[..]));
    go_on.send(()).unwrap();
    assert_eq!(opened.body.next().await.unwrap().as_deref(), Some(&b"rest"[..]));
    assert_eq!(opened.body.next().await.unwrap(), None);
    asked.await.unwrap();
}

#[tokio::test]
async fn silence_between_two_pieces_ends_a_body_and_so_does_a_break() {
    let (url, asked) = server(|mut stream| async move {
        stream.write_all(format!("{CHUNKED}5\r\nfirst\r\n").as_bytes()).await.unwrap();
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let request = |url| Outgoing { read_timeout: Duration::from_millis(150), ..request(url) };
    let mut opened = open(request(url)).await.unwrap();
    opened.body.next().await.unwrap();
    let failure = opened.body.next().await.unwrap_err();
    assert_eq!(facts(&failure), (FailureClass::Timeout, Scope::Call, false, false));
    drop(opened);
    asked.await.unwrap();
    let (url, _asked) = says(format!("{CHUNKED}5\r\nfirst\r\n")).await;
    let mut opened = open(request(url)).await.unwrap();
    opened.body.next().await.unwrap();
    let failure = opened.body.next().await.unwrap_err();
    assert_eq!(facts(&failure), (FailureClass::Network, Scope::Call, false, false));
}

#[tokio::test]
async fn whoever_drops_a_body_hangs_up_and_what_nobody_asks_for_is_not_taken() {
    const MEGABYTE: usize = 1024 * 1024;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let (url, asked) = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
        let piece = vec![b' '; 64 * 1024];
        while stream.write_all(&piece).await.is_ok() {
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    })
    .await;
    let mut opened = open(request(url)).await.unwrap();
    opened.body.next().await.unwrap();
    let mut before = u64::MAX;
    // Until nothing more fits into the buffers between us.
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!((before as usize) < 16 * MEGABYTE, "{before} bytes were taken");
    drop(opened);
    asked.await.unwrap();
}
