//! Answers and faults of the simulator over real connections.

use std::net::SocketAddr;

use quotaflow::simulator::{Running, ServeError, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

pub(crate) async fn running(yaml: &str) -> Running {
    let settings = SimulatorSettings::from_yaml(yaml).unwrap();
    serve(settings, SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

fn request_text(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-test-1\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn chat_text() -> String {
    request_text("/v1/chat/completions", &chat("hello").to_string())
}

/// Sends text and reads until the connection ends; the error if it does not end well.
pub(crate) async fn exchange(running: &Running, text: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(running.addr).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

pub(crate) fn client() -> reqwest::Client {
    // Another test may have been first; one provider for the process is all that is needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(running: &Running, path: &str) -> Value {
    let url = format!("http://{}{path}", running.addr);
    serde_json::from_slice(&client().get(url).send().await.unwrap().bytes().await.unwrap()).unwrap()
}

async fn post_chat(client: &reqwest::Client, running: &Running) -> reqwest::Response {
    let url = format!("http://{}/v1/chat/completions", running.addr);
    let body = chat("hello").to_string();
    client.post(url).header("authorization", "Bearer sk-test-1").body(body).send().await.unwrap()
}

#[tokio::test]
async fn a_client_gets_answers_refusals_and_statistics() {
    let running =
        running("keys: [{key: sk-test-1, label: one, provider: openai, limits: {rpm: 2}}]").await;
    let client = client();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(post_chat(&client, &running).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(get(&running, "/health").await["status"], "ok");
    let stats = get(&running, "/stats?timeline=true").await;
    assert_eq!((&stats["requests"], &stats["accepted"]), (&json!(3), &json!(2)));
    assert_eq!(stats["refused"], json!({"rpm": 1}));
    assert_eq!(stats["keys"]["one"]["output_tokens"], 32);
    let timeline = stats["timeline"].as_array().unwrap();
    let seen: Vec<_> = timeline.iter().map(|entry| (&entry["key"], &entry["status"])).collect();
    let one = json!("one");
    assert_eq!(seen, [(&one, &json!(200)), (&one, &json!(200)), (&one, &json!(429))]);
    assert!(!stats.to_string().contains("sk-test-1"));
    running.stop().await;
}

/// Lets others run until so many requests are in flight.
pub(crate) async fn until_in_flight(running: &Running, count: u64) {
    while running.stats().in_flight != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_in_flight_are_counted() {
    let running = with_fault("timeout").await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(running.addr).await.unwrap();
        stream.write_all(chat_text().as_bytes()).await.unwrap();
        streams.push(stream);
    }
    until_in_flight(&running, 40).await;
    drop(streams);
    until_in_flight(&running, 0).await;
    assert_eq!(running.stats().largest_in_flight, 40);
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_after_its_latency() {
    let running = running("{latency: 3600, keys: [{key: sk-test-1, provider: openai}]}").await;
    let start = tokio::time::Instant::now();
    let last = chat_text().replacen("Host:", "Connection: close\r\nHost:", 1);
    let answer = exchange(&running, &last).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!((3_600..3_601).contains(&start.elapsed().as_secs()));
}

#[tokio::test]
async fn a_connection_carries_many_requests_even_at_once() {
    let running = running("keys: [{key: sk-test-1, provider: openai}]").await;
    let last = chat_text().replacen("Host:", "Connection: close\r\nHost:", 1);
    let text = String::from_utf8(exchange(&running, &[chat_text(), last].concat()).await.unwrap());
    assert_eq!(text.unwrap().matches("HTTP/1.1 200 OK\r\n").count(), 2);
}

#[tokio::test]
async fn a_client_that_waits_to_be_welcome_is_welcomed() {
    let running = running("keys: [{key: sk-test-1, provider: openai}]").await;
    let text =
        chat_text().replacen("Host:", "Expect: 100-continue\r\nConnection: close\r\nHost:", 1);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut welcome = [0; 25];
    stream.read_exact(&mut welcome).await.unwrap();
    assert_eq!(&welcome, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

async fn with_fault(effect: &str) -> Running {
    running(&format!(
        "{{keys: [{{key: sk-test-1, provider: openai}}], faults: [{{do: {effect}}}]}}"
    ))
    .await
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let running = with_fault("reset").await;
    let error = exchange(&running, &chat_text()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(running.stats().refused["injected"], 1);
}

#[tokio::test]
async fn half_a_body_ends_before_its_announced_length() {
    let running = with_fault("half_body").await;
    let text = String::from_utf8(exchange(&running, &chat_text()).await.unwrap()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (_, length) = head.split_once("content-length: ").unwrap();
    assert_eq!(body.len(), length.trim().parse::<usize>().unwrap() / 2);
    assert!(!body.is_empty());
}

#[tokio::test]
async fn a_timeout_sends_nothing_and_holds_its_slot_until_the_client_leaves() {
    let running = with_fault("timeout").await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(chat_text().as_bytes()).await.unwrap();
    until_in_flight(&running, 1).await;
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");
    assert_eq!(running.stats().in_flight, 0);
}

#[tokio::test]
async fn a_huge_answer_has_the_size_that_was_asked_for() {
    let running = with_fault("{huge: 5000000}").await;
    let body = post_chat(&client(), &running).await.bytes().await.unwrap();
    assert_eq!(body.len(), 5_000_000);
}

#[tokio::test]
async fn rules_can_be_changed_while_it_runs() {
    let running = running("keys: [{key: sk-test-1, label: one, provider: openai}]").await;
    let client = client();
    let url = format!("http://{}/control", running.addr);
    let order = |body: &Value| client.post(&url).body(body.to_string()).send();
    let add =
        json!({"faults": [{"when": {"key": "one"}, "do": {"status": 503, "retry_after": 2}}]});
    assert_eq!(order(&add).await.unwrap().status(), 200);
    let struck = post_chat(&client, &running).await;
    assert_eq!(
        (struck.status().as_u16(), &struck.headers()["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    assert_eq!(order(&json!({"faults": [{"do": "explode"}]})).await.unwrap().status(), 400);
    let clean = json!({"clear_faults": true, "reset_stats": true});
    assert_eq!(order(&clean).await.unwrap().status(), 200);
    assert_eq!(post_chat(&client, &running).await.status(), 200);
    assert_eq!(running.stats().requests, 1);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_the_connection_closed() {
    let running = running("{}").await;
    let text = String::from_utf8(exchange(&running, "hello?\r\n\r\n").await.unwrap()).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let addr = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = serve(SimulatorSettings::default(), addr).await;
    assert!(matches!(refused, Err(ServeError::NotLoopback(given)) if given == addr));
}

#[tokio::test]
async fn stopping_closes_the_port_and_the_connections() {
    let running = with_fault("timeout").await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(chat_text().as_bytes()).await.unwrap();
    let addr = running.addr;
    running.stop().await;
    let mut rest = Vec::new();
    // Closed in order or reset; what matters is that it does not go on.
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    assert!(TcpStream::connect(addr).await.is_err());
}
