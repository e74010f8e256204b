//! Streams under quotas and time, settled however they end.

use std::time::Duration;

use quotaflow::engine::{Answer, Resume, Seam, StreamEvent, StreamPiece, Streaming};
use quotaflow::error::{Error, ErrorKind, Status};
use quotaflow::kernel::FailureClass;
use quotaflow::providers::TransportFault;
use serde_json::{Value, json};

use super::{Reply, Stage, Step, ask, failures, openai, pass, settle, within};

pub(super) fn event(data: &Value) -> Step {
    Step::Says(format!("data: {data}\n\n"))
}

pub(super) fn said(text: &str) -> Step {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

pub(super) fn end(prompt: u64, completion: u64) -> Vec<Step> {
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": completion});
    vec![
        event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})),
        event(&json!({"choices": [], "usage": usage})),
        Step::Says("data: [DONE]\n\n".to_owned()),
    ]
}

pub(super) fn stream(texts: &[&str]) -> Vec<Step> {
    texts.iter().map(|text| said(text)).chain(end(10, 5)).collect()
}

/// One key that may use a million tokens a day.
pub(super) fn config() -> Value {
    openai(&["one"], json!({"tpd": {"amount": 1_000_000, "refill": "rolling"}}))
}

pub(super) fn begin(stage: &Stage) -> Streaming {
    begin_with(stage, None)
}

pub(super) fn begin_with(stage: &Stage, resume: Option<Resume>) -> Streaming {
    let mut ask = ask("Tell me a story.");
    ask.params.insert("max_tokens".to_owned(), json!(1_000));
    stage.engine.stream(ask, resume, None).unwrap()
}

pub(super) fn tokens(stage: &Stage) -> u64 {
    let keys = stage.keys_of("openai");
    keys.iter().flat_map(|key| &key.limits).map(|limit| limit.used).sum()
}

pub(super) fn in_flight(stage: &Stage) -> u64 {
    stage.keys_of("openai").iter().map(|key| key.in_flight).sum()
}

/// Everything up to the end: what was said, the seams, and the answer.
pub(super) async fn read(mut stream: Streaming) -> (String, Vec<Seam>, Result<Answer, Error>) {
    let (mut text, mut seams) = (String::new(), Vec::new());
    loop {
        match stream.next().await {
            Ok(Some(StreamEvent::Piece(StreamPiece::Text(piece)))) => text.push_str(&piece),
            Ok(Some(StreamEvent::Piece(_))) => {}
            Ok(Some(StreamEvent::Seam(seam))) => {
                text.push('|');
                seams.push(*seam);
            }
            Ok(None) => return (text, seams, Ok(stream.answer().unwrap())),
            Err(error) => return (text, seams, Err(error)),
        }
    }
}

pub(super) async fn first(stream: &mut Streaming) -> String {
    match stream.next().await.unwrap() {
        Some(StreamEvent::Piece(StreamPiece::Text(text))) => text,
        other => panic!("no text came first but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reserved_before_a_piece_is_wanted_and_the_bill_replaces_what_was() {
    let mut steps = vec![Step::Waits(2), said("Once ")];
    steps.push(Step::Waits(3));
    steps.extend(stream(&["upon"]));
    let stage = Stage::new(config(), [Reply::stream(steps)]);
    let mut stream = begin(&stage);
    assert_eq!((stage.sent().len(), tokens(&stage), in_flight(&stage)), (0, 0, 0));
    assert_eq!(first(&mut stream).await, "Once ");
    assert_eq!((stage.now(), stage.open(), in_flight(&stage)), (2.0, 1, 1));
    assert!(tokens(&stage) > 1_000, "{}", tokens(&stage));
    let (text, _, answer) = read(stream).await;
    let answer = answer.unwrap();
    assert_eq!((text.as_str(), answer.text.as_str()), ("upon", "Once upon"));
    assert_eq!(answer.first_token, Some(Duration::from_secs(2)));
    assert_eq!(answer.latency, Duration::from_secs(5));
    assert_eq!((tokens(&stage), in_flight(&stage), stage.open()), (15, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_streams_nothing_for_an_hour_is_left_when_its_silence_is_too_long() {
    let stage = Stage::new(config(), [Reply::stream(vec![Step::Waits(3_600)])]);
    let mut ask = ask("Hi");
    ask.retry = false;
    let silence = Some(Duration::from_secs(90));
    let stream = stage.engine.stream(ask, None, silence).unwrap();
    let error = read(stream).await.2.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failure(FailureClass::Timeout));
    assert_eq!(stage.now(), 90.0);
    assert_eq!((in_flight(&stage), stage.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn comments_are_life_and_a_deadline_ends_them_all_the_same() {
    let comment = || [Step::Waits(50), Step::Says(": still here\n\n".to_owned())];
    let hour = (0..100).flat_map(|_| comment()).collect();
    let mut config = config();
    // Longer than the deadline: what comments alone come to is another matter.
    config["timeouts"] = json!({"piece": 7_200});
    let stage = Stage::new(config, [Reply::stream(hour)]);
    let mut ask = ask("Hi");
    ask.timeout = Some(Duration::from_secs(3_600));
    let stream = stage.engine.stream(ask, None, Some(Duration::from_secs(60))).unwrap();
    let error = read(stream).await.2.unwrap_err();
    assert_eq!((error.kind.clone(), stage.now()), (ErrorKind::Deadline, 3_600.0));
    assert_eq!((in_flight(&stage), stage.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_in_the_middle_pays_for_the_prompt_and_what_was_produced() {
    let text = "x".repeat(400);
    let stage = Stage::new(config(), [Reply::stream(vec![said(&text), Step::Waits(50)])]);
    let mut stream = begin(&stage);
    first(&mut stream).await;
    drop(stream);
    // Twelve tokens are the prompt as it is reckoned, a hundred the four hundred bytes.
    assert_eq!((tokens(&stage), in_flight(&stage), stage.open()), (112, 0, 0));
    // The same of one who leaves while waiting for the next piece.
    let stage = Stage::new(config(), [Reply::stream(vec![said(&text), Step::Waits(50)])]);
    let mut stream = begin(&stage);
    first(&mut stream).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), stream.next()).await.is_err());
    drop(stream);
    assert_eq!((tokens(&stage), in_flight(&stage), stage.open()), (112, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_before_it_was_sent_pays_nothing() {
    let stage = Stage::new(
        openai(
            &["one"],
            json!({"concurrency": 1, "tpd": {"amount": 1_000_000, "refill": "rolling"}}),
        ),
        [Reply::stream(vec![said("a"), Step::Waits(50)])],
    );
    let mut blocks = begin(&stage);
    first(&mut blocks).await;
    let mut waits = begin(&stage);
    let before = tokens(&stage);
    assert!(tokio::time::timeout(Duration::from_secs(1), waits.next()).await.is_err());
    drop(waits);
    settle().await;
    assert_eq!((tokens(&stage), stage.waiting(), stage.sent().len()), (before, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn usage_that_was_told_counts_for_whoever_leaves() {
    let usage = json!({"prompt_tokens": 40, "completion_tokens": 2});
    let told =
        event(&json!({"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": usage}));
    let stage = Stage::new(config(), [Reply::stream(vec![told, Step::Waits(50)])]);
    let mut stream = begin(&stage);
    first(&mut stream).await;
    drop(stream);
    assert_eq!(tokens(&stage), 42);
}

#[tokio::test(start_paused = true)]
async fn a_break_after_the_first_piece_is_the_callers_to_know() {
    let broken = vec![said("Once "), said("upon "), Step::Breaks(TransportFault::Broken)];
    let stage = Stage::new(config(), [Reply::stream(broken)]);
    let (text, seams, outcome) = read(begin(&stage)).await;
    let error = outcome.unwrap_err();
    assert_eq!((text.as_str(), seams.len()), ("Once upon ", 0));
    assert_eq!(error.kind, ErrorKind::Interrupted { text: "Once upon ".to_owned() });
    assert_eq!((error.failure, error.status), (Some(FailureClass::Network), Status::Temporary));
    assert_eq!(failures(&error), [Some(FailureClass::Network)]);
    assert_eq!((tokens(&stage), in_flight(&stage)), (12 + 3, 0));
}

#[tokio::test(start_paused = true)]
async fn pieces_that_came_with_the_error_are_handed_out_before_it() {
    let (Step::Says(text), Step::Says(error)) = (
        said("Once"),
        event(&json!({"error": {"message": "The server had an error.", "type": "server_error"}})),
    ) else {
        unreachable!()
    };
    let stage = Stage::new(config(), [Reply::stream(vec![Step::Says(text + &error)])]);
    let (text, _, outcome) = read(begin(&stage)).await;
    assert_eq!(text, "Once");
    assert_eq!(outcome.unwrap_err().failure, Some(FailureClass::ServerError));
}

#[tokio::test(start_paused = true)]
async fn a_seam_is_told_when_the_next_one_speaks_and_rests_are_kept() {
    let broken = || Reply::stream(vec![said("Once "), Step::Breaks(TransportFault::Broken)]);
    let good = Reply::stream(stream(&["upon"]));
    let stage =
        Stage::new(config(), [broken(), Reply::fault(TransportFault::Refused), broken(), good]);
    let (text, seams, answer) = read(begin_with(&stage, Some(Resume::Continue))).await;
    assert_eq!(text, "Once |Once |upon");
    assert_eq!(answer.unwrap().text, "Once Once upon");
    assert!(seams.iter().all(|seam| !seam.restarts && seam.message.contains("broke")));
    let turns: Vec<usize> = stage.conversations().iter().map(Vec::len).collect();
    assert_eq!(turns, [1, 3, 3, 3]);
    assert_eq!(stage.conversations()[3][1], "Once Once ");
    let times = stage.times();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1.0), "{times:?}");
    assert!(within(times[3], 3.0, 20.0), "{times:?}");
    assert_eq!(in_flight(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_voids_the_text_and_asks_the_same_again() {
    let broken = vec![said("Once "), Step::Breaks(TransportFault::Broken)];
    let replies = [Reply::stream(broken), Reply::stream(stream(&["There ", "was"]))];
    let stage = Stage::new(config(), replies);
    let (text, seams, answer) = read(begin_with(&stage, Some(Resume::Restart))).await;
    assert_eq!((text.as_str(), answer.unwrap().text.as_str()), ("Once |There was", "There was"));
    assert!(seams[0].restarts);
    assert_eq!(
        (seams[0].key.as_str(), seams[0].broken.failure),
        ("openai key 1", Some(FailureClass::Network))
    );
    assert_eq!(stage.conversations()[0], stage.conversations()[1]);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_goes_on_the_error_has_the_text_of_all_and_every_attempt() {
    let broken = || Reply::stream(vec![said("Once "), Step::Breaks(TransportFault::Broken)]);
    let stage = Stage::new(config(), (0..4).map(|_| broken()));
    let (text, _, outcome) = read(begin_with(&stage, Some(Resume::Continue))).await;
    let error = outcome.unwrap_err();
    assert_eq!(text, "Once |Once |Once |Once ");
    assert_eq!(error.kind, ErrorKind::Interrupted { text: "Once ".repeat(4) });
    assert_eq!((error.attempts.len(), error.status), (4, Status::Exhausted));
}

#[tokio::test(start_paused = true)]
async fn closing_the_engine_ends_a_stream_that_waits_for_a_piece() {
    let stage = Stage::new(config(), [Reply::stream(vec![said("a"), Step::Waits(50)])]);
    let mut stream = begin(&stage);
    first(&mut stream).await;
    let reader = tokio::spawn(async move { stream.next().await.unwrap_err() });
    pass(1.0).await;
    stage.engine.close();
    assert_eq!(reader.await.unwrap().kind, ErrorKind::Closed);
    assert_eq!((stage.now(), in_flight(&stage), stage.open()), (1.0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_end_its_body_holds_nobody_up() {
    let mut steps = stream(&["fine"]);
    steps.push(Step::Waits(50));
    let stage = Stage::new(config(), [Reply::stream(steps)]);
    let (_, _, answer) = read(begin(&stage)).await;
    assert_eq!((answer.unwrap().text.as_str(), stage.now()), ("fine", 0.0));
    pass(2.0).await;
    assert_eq!(stage.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_given_before_is_streamed_again_and_one_that_was_streamed_is_given() {
    let stage = Stage::new(config(), [Reply::stream(stream(&["Once upon ", "a time"]))]);
    let wish = || {
        let mut ask = ask("Tell me a story.");
        ask.cache = quotaflow::engine::CacheWish::UpTo(None);
        ask
    };
    let first = read(stage.engine.stream(wish(), None, None).unwrap()).await.2.unwrap();
    let used = tokens(&stage);
    let mut again = stage.engine.stream(wish(), None, None).unwrap();
    let mut pieces = Vec::new();
    while let Some(StreamEvent::Piece(StreamPiece::Text(piece))) = again.next().await.unwrap() {
        pieces.push(piece);
    }
    assert_eq!(pieces, ["Once ", "upon ", "a ", "time"]);
    let answer = again.answer().unwrap();
    assert_eq!((first.cached, answer.cached, answer.text == first.text), (false, true, true));
    assert_eq!(stage.send(wish()).await.unwrap().text, "Once upon a time");
    assert_eq!((stage.sent().len(), tokens(&stage), in_flight(&stage)), (1, used, 0));
}
