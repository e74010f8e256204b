//! The yardstick: a bare loop around reqwest.
//!
//! The yardstick for `send_prompt`: the same request to the same server on the same kind of connection, and nothing
//! around it. `reqwest_loop <url> <key> <body> <workers>` reads jobs `<in flight> <seconds>` from stdin, one a line (0 in flight:
//! one after the other, each timed), and answers each with a line of JSON.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{BufRead, stdin};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Client;

#[derive(Clone)]
struct Caller {
    client: Client,
    url: String,
    key: String,
    body: Bytes,
    /// The answer is asked for in pieces, and read so.
    streams: bool,
}

impl Caller {
    async fn call(&self) {
        let mut response = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.key))
            .body(self.body.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        if self.streams {
            while response.chunk().await.unwrap().is_some() {}
        } else {
            response.bytes().await.unwrap();
        }
    }

    async fn one_after_the_other(&self, seconds: Duration) -> String {
        let (began, mut took) = (Instant::now(), Vec::new());
        while began.elapsed() < seconds {
            let before = Instant::now();
            self.call().await;
            took.push(before.elapsed().as_nanos() as u64);
        }
        took.sort_unstable();
        let median = took[took.len() / 2] as f64 / 1_000.0;
        format!(r#"{{"median_us": {median:.2}, "calls": {}}}"#, took.len())
    }

    async fn at_once(&self, in_flight: usize, seconds: Duration) -> String {
        let began = Instant::now();
        let workers = (0..in_flight).map(|_| {
            let caller = self.clone();
            tokio::spawn(async move {
                let mut calls: u64 = 0;
                while began.elapsed() < seconds {
                    caller.call().await;
                    calls += 1;
                }
                calls
            })
        });
        let workers: Vec<_> = workers.collect();
        let mut calls = 0;
        for worker in workers {
            calls += worker.await.unwrap();
        }
        let rate = calls as f64 / began.elapsed().as_secs_f64();
        format!(r#"{{"per_second": {rate:.1}, "calls": {calls}}}"#)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [url, key, body, workers] = &arguments[..] else {
        println!("usage: reqwest_loop <url> <key> <body> <workers>");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No workers, one thread, is the fastest way to run such a loop: no call ever wakes another thread. With workers
    // it is what a library has to do whose connections outlive the thread that calls.
    let mut runtime = match workers.parse().unwrap() {
        0 => tokio::runtime::Builder::new_current_thread(),
        workers => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(workers);
            runtime
        }
    };
    let runtime = runtime.enable_all().build().unwrap();
    let client = runtime.block_on(async { Client::builder().build().unwrap() });
    let streams = body.contains(r#""stream":true"#);
    let body = Bytes::from(body.clone());
    let caller = Caller { client, url: url.clone(), key: key.clone(), body, streams };
    for line in stdin().lock().lines() {
        let line = line.unwrap();
        let mut words = line.split_whitespace();
        let in_flight: usize = words.next().unwrap().parse().unwrap();
        let seconds = Duration::from_secs_f64(words.next().unwrap().parse().unwrap());
        let answer = match in_flight {
            0 => runtime.block_on(caller.one_after_the_other(seconds)),
            _ => runtime.block_on(caller.at_once(in_flight, seconds)),
        };
        println!("{answer}");
    }
}
