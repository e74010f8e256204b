//! What ends a stream besides its own end, and what is then known and counted.

use std::sync::Arc;
use std::time::Duration;

use quotaflow::engine::{Checkout, Overdue, ParkedStream, Request, Resume, Streaming};
use quotaflow::error::{Error, ErrorKind};
use quotaflow::kernel::FailureClass;
use quotaflow::providers::TransportFault;
use serde_json::{Value, json};

use super::stream::{begin, begin_with, config, end, event, first, in_flight, read, said, stream};
use super::{Reply, Stage, Step, ask, failures, openai, pass, settle};

fn lasting(seconds: u64) -> Request {
    Request { timeout: Some(Duration::from_secs(seconds)), ..ask("Tell me a story.") }
}

fn taken(seat: &ParkedStream) -> Box<Streaming> {
    match seat.take() {
        Checkout::Stream(stream) => stream,
        other => panic!("no stream but {other:?}"),
    }
}

/// A stream in its seat, whose first piece was read.
async fn seated(stage: &Stage, ask: Request) -> Arc<ParkedStream> {
    let seat = ParkedStream::for_stream(stage.engine.stream(ask, None, None).unwrap());
    let mut stream = taken(&seat);
    first(&mut stream).await;
    seat.put_back(stream);
    seat
}

async fn told(seat: &ParkedStream) -> Error {
    read(*taken(seat)).await.2.unwrap_err()
}

fn two_words() -> Reply {
    Reply::stream(vec![said("Once "), Step::Waits(5_000), said("upon")])
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_ends_when_its_time_is_over() {
    let stage = Stage::new(config(), [two_words(), two_words()]);
    let short = seated(&stage, lasting(60)).await;
    let long = seated(&stage, lasting(600)).await;
    pass(10.0).await;
    let next = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(stage.engine.end_overdue(), Overdue { ended: 0, next: next(50) });
    pass(50.0).await;
    assert_eq!(stage.engine.end_overdue(), Overdue { ended: 1, next: next(540) });
    assert_eq!((in_flight(&stage), stage.open()), (1, 1));
    let error = told(&short).await;
    assert_eq!((error.kind.clone(), failures(&error).len()), (ErrorKind::Deadline, 1));
    drop(long);
    assert_eq!(stage.engine.end_overdue(), Overdue::default());
    assert_eq!((in_flight(&stage), stage.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_put_back_too_late_ends_in_its_seat() {
    let stage = Stage::new(config(), [two_words()]);
    let seat = ParkedStream::for_stream(stage.engine.stream(lasting(60), None, None).unwrap());
    let mut stream = taken(&seat);
    first(&mut stream).await;
    assert!(matches!(seat.take(), Checkout::Taken));
    pass(60.0).await;
    // Whoever has it is told by itself.
    assert_eq!(stage.engine.end_overdue(), Overdue::default());
    assert_eq!(in_flight(&stage), 1);
    seat.put_back(stream);
    assert_eq!((in_flight(&stage), stage.open()), (0, 0));
    assert_eq!(told(&seat).await.kind, ErrorKind::Deadline);
}

#[tokio::test(start_paused = true)]
async fn closing_the_engine_ends_a_stream_that_nobody_reads() {
    let stage = Stage::new(config(), [two_words(), two_words()]);
    let here = seated(&stage, ask("Tell me a story.")).await;
    let away = seated(&stage, ask("Tell me a story.")).await;
    let stream = taken(&away);
    assert_eq!(stage.engine.next_overdue(), None);
    assert_eq!(stage.engine.close(), 1);
    assert_eq!((in_flight(&stage), stage.open()), (1, 1));
    away.put_back(stream);
    assert_eq!((in_flight(&stage), stage.open()), (0, 0));
    assert_eq!(told(&here).await.kind, ErrorKind::Closed);
    assert_eq!(told(&away).await.kind, ErrorKind::Closed);
}

/// Signs of life every 50 seconds for more than an hour.
fn alive() -> impl Iterator<Item = Step> {
    let nothing = || event(&json!({"choices": [{"index": 0, "delta": {"content": ""}}]}));
    let comment = || Step::Says(": still here\n\n".to_owned());
    (0..100).flat_map(move |n| [Step::Waits(50), if n % 2 == 0 { comment() } else { nothing() }])
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_alone_are_a_timeout_that_is_tried_again() {
    let good = Reply::stream(stream(&["fine"]));
    let stage = Stage::new(config(), [Reply::stream(alive().collect()), good]);
    let (text, _, answer) = read(begin(&stage)).await;
    let attempts: Vec<_> = answer.unwrap().attempts.iter().map(|one| one.failure).collect();
    assert_eq!((text.as_str(), attempts), ("fine", vec![Some(FailureClass::Timeout), None]));
    assert!((600.0..620.0).contains(&stage.times()[1]), "{:?}", stage.times());
    assert_eq!((in_flight(&stage), stage.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn between_two_pieces_they_are_a_break_after_as_long_as_is_configured() {
    let mut config = config();
    config["timeouts"] = json!({"piece": 120});
    let steps = || [Step::Waits(100), said("Once ")].into_iter().chain(alive()).collect();
    let stage = Stage::new(config, [Reply::stream(steps()), Reply::stream(steps())]);
    let error = read(begin(&stage)).await.2.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted { text: "Once ".to_owned() });
    assert_eq!(error.failure, Some(FailureClass::Timeout));
    assert!(error.message.contains("no piece of the answer for 120 s"), "{}", error.message);
    assert_eq!(stage.now(), 220.0);
    // A call that allows a longer silence allows that without a piece, too.
    let silence = Some(Duration::from_secs(1_000));
    let stream = stage.engine.stream(ask("Tell me a story."), None, silence).unwrap();
    assert!(read(stream).await.2.is_err());
    assert_eq!(stage.now(), 220.0 + 100.0 + 1_000.0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_is_no_silence() {
    let steps = vec![said("Once "), Step::Waits(500), said("upon "), Step::Waits(500)];
    let steps = steps.into_iter().chain(stream(&["a time"])).collect();
    let stage = Stage::new(config(), [Reply::stream(steps)]);
    let mut stream = begin(&stage);
    first(&mut stream).await;
    pass(3_600.0).await;
    assert_eq!(first(&mut stream).await, "upon ");
    assert!(read(stream).await.2.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_the_head_says_of_limits_counts_before_the_rest_is_there() {
    let replies = [two_words()
        .header("x-ratelimit-limit-requests", "100")
        .header("x-ratelimit-remaining-requests", "40")
        // Sixty of a hundred: that is the bucket of a day.
        .header("x-ratelimit-reset-requests", "51840s")];
    let stage = Stage::new(openai(&["one"], json!({})), replies);
    let used = || {
        let keys = stage.keys_of("openai");
        keys.iter().flat_map(|key| &key.limits).map(|limit| limit.used).sum::<u64>()
    };
    let mut stream = begin(&stage);
    first(&mut stream).await;
    assert_eq!(used(), 60);
    drop(stream);
    assert_eq!(used(), 60);
}

fn broken() -> Reply {
    Reply::stream(vec![said("Once "), Step::Breaks(TransportFault::Broken)])
}

async fn resumed(stage: &Stage, ask: Request) -> (String, Error) {
    let (text, _, outcome) =
        read(stage.engine.stream(ask, Some(Resume::Restart), None).unwrap()).await;
    (text, outcome.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn a_time_that_ends_while_it_tries_to_go_on_is_what_is_told() {
    let stage = Stage::new(config(), [broken(), Reply::silence()]);
    let (text, error) = resumed(&stage, lasting(60)).await;
    assert_eq!((text.as_str(), error.kind.clone()), ("Once ", ErrorKind::Deadline));
    assert_eq!(failures(&error), [Some(FailureClass::Network), Some(FailureClass::Timeout)]);
    assert_eq!(stage.now(), 60.0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_its_user_that_stops_it_does_not_cost_the_text() {
    let mut config = config();
    // Enough for the first attempt, and not for the second one beside what that used.
    config["users"] = json!({"alice": {"tpd": 1_020}});
    let stage = Stage::new(config, [broken()]);
    let mut ask = Request { user: Some("alice".to_owned()), ..ask("Tell me a story.") };
    ask.params.insert("max_tokens".to_owned(), json!(1_000));
    let (text, error) = resumed(&stage, ask).await;
    assert_eq!(text, "Once ");
    assert_eq!(error.kind, ErrorKind::Interrupted { text });
    assert_eq!((error.failure, error.user_limit), (Some(FailureClass::Network), None));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_emptied_while_it_waits_to_go_on_is_what_is_told() {
    let refused: Value = json!({"error": {"message": "Rate limit reached. Try again in 20s.",
        "code": "rate_limit_exceeded"}});
    let refused = Reply::stream(vec![said("Once "), event(&refused)]);
    let stage = Stage::new(config(), [refused]);
    let stream = begin_with(&stage, Some(Resume::Restart));
    let reader = tokio::spawn(read(stream));
    settle().await;
    assert_eq!(stage.engine.clear_queue(None, None).unwrap(), 1);
    let (text, _, outcome) = reader.await.unwrap();
    assert_eq!(
        (text.as_str(), outcome.unwrap_err().kind.clone()),
        ("Once ", ErrorKind::QueueCleared)
    );
    assert_eq!(in_flight(&stage), 0);
}

fn all_but_the_last_event(text: &str) -> Reply {
    let mut steps = vec![said(text)];
    steps.extend(end(10, 5).into_iter().take(1));
    Reply::stream(steps)
}

#[tokio::test(start_paused = true)]
async fn a_model_that_was_done_is_not_asked_to_go_on() {
    let stage = Stage::new(config(), [all_but_the_last_event("The whole answer.")]);
    let error = read(begin_with(&stage, Some(Resume::Continue))).await.2.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted { text: "The whole answer.".to_owned() });
    assert!(error.hint.as_ref().unwrap().contains("resume=\"restart\""), "{error:?}");
    assert_eq!(stage.sent().len(), 1);
    // Asked again from the start it is as good as any.
    let replies = [all_but_the_last_event("Once."), Reply::stream(stream(&["Once more."]))];
    let stage = Stage::new(config(), replies);
    let (text, _, answer) = read(begin_with(&stage, Some(Resume::Restart))).await;
    assert_eq!((text.as_str(), answer.unwrap().text.as_str()), ("Once.|Once more.", "Once more."));
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_comes_with_the_end_of_its_time_is_handed_out_before_that() {
    let steps = vec![Step::Waits(10), said("Once "), Step::Waits(50)];
    let stage = Stage::new(config(), [Reply::stream(steps)]);
    let (text, _, outcome) = read(stage.engine.stream(lasting(10), None, None).unwrap()).await;
    assert_eq!((text.as_str(), outcome.unwrap_err().kind.clone()), ("Once ", ErrorKind::Deadline));
    assert_eq!((stage.now(), in_flight(&stage), stage.open()), (10.0, 0, 0));
}
