//! The schema of a config: fields and their types.
//!
//! The one description of the config: the reader checks names and says what was expected from it, and suggestions for a
//! misspelt field come from it.

use crate::kernel::{Period, Resource};

/// What a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Table,
    TableOrList,
    Text,
    TextOrList,
    Keys,
    Limit,
    Cost,
    Whole,
    Seconds,
    Share,
    /// A share of which nothing is left is no share.
    SomeShare,
    SomeWeight,
    Multiplier,
    /// US dollars.
    Price,
    Flag,
    Budget,
}

impl Takes {
    /// As an error says it after "expected".
    pub(super) const fn words(self) -> &'static str {
        match self {
            Takes::Table => "a table",
            Takes::TableOrList => "a table or a list of tables",
            Takes::Text => "a text",
            Takes::TextOrList => "a text or a list of texts",
            Takes::Keys => "a key, a table with `key` or `env`, or a list of these",
            Takes::Limit => "a positive whole number or a table with `amount`",
            Takes::Cost => "an amount of US dollars or a table with `amount`",
            Takes::Whole => "a whole number",
            Takes::Seconds => "a number of seconds",
            Takes::Share => "a number from 0 to 1",
            Takes::SomeShare => "a number more than 0 and at most 1",
            Takes::Price => "US dollars, a number from 0 to 1000000",
            Takes::SomeWeight => "a number more than 0",
            Takes::Multiplier => "a number of 1 or more",
            Takes::Flag => "true or false",
            Takes::Budget => "a table with `share` and `reserve`",
        }
    }

    /// Whether nothing (`null`, or a NaN that became one) is the same as not writing the field.
    pub(super) const fn may_be_nothing(self) -> bool {
        matches!(
            self,
            Takes::Table
                | Takes::TableOrList
                | Takes::Text
                | Takes::TextOrList
                | Takes::Keys
                | Takes::Budget
        )
    }
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    /// Words people write for it, too far from the name to be found by distance.
    pub(super) also: &'static [&'static str],
}

const fn field(name: &'static str, takes: Takes, also: &'static [&'static str]) -> Field {
    Field { name, takes, also }
}

/// A parameter that is meant although a field is called almost the same (OpenRouter's list of models).
pub(super) const MEANT_PARAMETER: &str = "models";

/// A table with fixed field names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) fields: &'static [Field],
    /// Other names are allowed, too (parameters for the provider).
    pub(super) open: bool,
}

const fn closed(fields: &'static [Field]) -> Section {
    Section { fields, open: false }
}

/// The whole config.
pub(super) const TOP: Section = closed(&[
    field("providers", Takes::Table, &["endpoints"]),
    field("models", Takes::Table, &["routes", "tasks"]),
    field("limits", Takes::Table, &["rate_limits", "quotas"]),
    field("strategy", Takes::Table, &["routing", "policy"]),
    field("state", Takes::Text, &["storage", "database", "cache"]),
    field("retry", Takes::Table, &["max_retries", "retry_delay"]),
    field("timeouts", Takes::Table, &["timeout"]),
    field("queue", Takes::Table, &["max_size"]),
    field("max_wait", Takes::Seconds, &[]),
    field("answer_cache", Takes::Table, &["answers", "cached_answers"]),
    field("prices", Takes::Table, &["costs", "pricing"]),
    field("users", Takes::Table, &["tenants"]),
]);

/// `providers.<name>`.
pub(super) const PROVIDER: Section = closed(&[
    field("keys", Takes::Keys, &["key", "api_key", "api_keys", "backup_keys"]),
    field("base_url", Takes::Text, &["url", "endpoint", "api_base", "host"]),
    field("limits", Takes::Table, &["quota", "quotas", "rate_limits"]),
    field("default_model", Takes::Text, &["model"]),
    field("dialect", Takes::Text, &["format", "type", "api"]),
    field("timeout", Takes::Seconds, &["timeouts"]),
]);

/// One key written as a table.
pub(super) const KEY: Section = closed(&[
    field("key", Takes::Text, &["secret", "value", "api_key", "token"]),
    field("env", Takes::Text, &["variable", "name"]),
    field("label", Takes::Text, &[]),
    field("group", Takes::Text, &["organization", "organisation", "project", "workspace"]),
    field("limits", Takes::Table, &["quota", "quotas"]),
]);

/// `models.default`, one of `models.fallback`; everything else in it is a parameter for the provider.
pub(super) const TARGET: Section = Section { fields: TASK_FIELDS.split_at(5).0, open: true };

/// `models.<task>`: a target that may have fallbacks of its own.
pub(super) const TASK: Section = Section { fields: &TASK_FIELDS, open: true };

const TASK_FIELDS: [Field; 6] = [
    field("provider", Takes::Text, &[]),
    field("model", Takes::Text, &["model_name"]),
    field("key", Takes::Text, &["api_key", "apikey", "secret", "authorization"]),
    field("backup_keys", Takes::TextOrList, &["keys", "api_keys"]),
    field("base_url", Takes::Text, &["url", "endpoint", "api_base"]),
    field("fallback", Takes::TableOrList, &["fallbacks"]),
];

/// A limit written as a table.
pub(super) const LIMIT: Section = closed(&[
    field("amount", Takes::Whole, &["limit", "value", "max"]),
    field("refill", Takes::Text, &["kind", "type"]),
    field("burst", Takes::Whole, &["capacity", "size"]),
    field("zone", Takes::Text, &["timezone", "tz"]),
]);

/// `retry`.
pub(super) const RETRY: Section = closed(&[
    field("max_retries", Takes::Whole, &["retries", "attempts", "max_attempts"]),
    field("retry_delay", Takes::Seconds, &["delay", "base", "backoff"]),
    field("retry_multiplier", Takes::Multiplier, &["multiplier", "factor", "exponential_base"]),
    field("cap", Takes::Seconds, &["max_delay"]),
    field("budget", Takes::Budget, &[]),
]);

/// `retry.budget`.
pub(super) const BUDGET: Section = closed(&[
    field("share", Takes::Share, &["ratio", "percent"]),
    field("reserve", Takes::Whole, &["minimum", "min"]),
]);

/// `strategy`.
pub(super) const STRATEGY: Section = closed(&[
    field("use_local_first", Takes::Flag, &["local_first", "prefer_local"]),
    field("local_last", Takes::Flag, &["use_local_last", "api_first"]),
    field("fallback_to_api", Takes::Flag, &["use_api", "allow_api"]),
    field("cost_optimized", Takes::Flag, &["cost_optimised", "cheapest_first"]),
]);

/// `timeouts`.
pub(super) const TIMEOUTS: Section = closed(&[
    field("connect", Takes::Seconds, &[]),
    field("read", Takes::Seconds, &["idle", "first_byte"]),
    field("call", Takes::Seconds, &["total", "deadline"]),
    field("piece", Takes::Seconds, &["token", "between_pieces", "chunk"]),
]);

/// `queue`.
pub(super) const QUEUE: Section = closed(&[field("max_size", Takes::Whole, &["size", "length"])]);

/// `answer_cache`.
pub(super) const ANSWER_CACHE: Section = closed(&[
    field("ttl", Takes::Seconds, &["max_age", "expire", "seconds"]),
    field("max_bytes", Takes::Whole, &["max_size", "size", "bytes"]),
    field("always", Takes::Flag, &["enabled", "on", "default"]),
]);

/// `prices.<provider>.<model>`: US dollars for a million tokens, and for a call.
pub(super) const PRICE: Section = closed(&[
    field("input", Takes::Price, &["input_tokens", "prompt", "input_mtok", "input_cost"]),
    field("output", Takes::Price, &["output_tokens", "completion", "output_mtok", "output_cost"]),
    field("cached_input", Takes::Price, &["cached", "cache_read", "cache_hit"]),
    field("cache_write", Takes::Price, &["cache_creation", "written"]),
    field("reasoning", Takes::Price, &["thinking", "thoughts"]),
    field("request", Takes::Price, &["call", "per_request"]),
]);

/// Every limit with a period: name, what it counts, over which window. The likelier of two names comes first, for it is
/// the one suggested when both are as near.
pub(super) const LIMIT_NAMES: [(&str, Resource, Period); 22] = {
    use Period::{Day, Hour, Minute, Month, Second};
    use Resource::{InputTokens, OutputTokens, Requests, Spend, Tokens};
    [
        ("rpm", Requests, Minute),
        ("tpm", Tokens, Minute),
        ("rpd", Requests, Day),
        ("tpd", Tokens, Day),
        ("rps", Requests, Second),
        ("rph", Requests, Hour),
        ("rpmonth", Requests, Month),
        ("tps", Tokens, Second),
        ("tph", Tokens, Hour),
        ("tpmonth", Tokens, Month),
        ("input_tpm", InputTokens, Minute),
        ("input_tpd", InputTokens, Day),
        ("input_tps", InputTokens, Second),
        ("input_tph", InputTokens, Hour),
        ("input_tpmonth", InputTokens, Month),
        ("output_tpm", OutputTokens, Minute),
        ("output_tpd", OutputTokens, Day),
        ("output_tps", OutputTokens, Second),
        ("output_tph", OutputTokens, Hour),
        ("output_tpmonth", OutputTokens, Month),
        ("cost_per_day", Spend, Day),
        ("cost_per_month", Spend, Month),
    ]
};

const LIMIT_FIELDS: [Field; 29] = {
    let mut fields = [field("models", Takes::Table, &["model"]); 29];
    let mut index = 0;
    while index < LIMIT_NAMES.len() {
        let name = LIMIT_NAMES[index].0;
        let also: &[&str] = match index {
            0 => &["requests_per_minute", "requests", "rate"],
            1 => &["tokens_per_minute", "tokens"],
            2 => &["requests_per_day", "daily"],
            3 => &["tokens_per_day"],
            4 => &["requests_per_second", "qps"],
            10 => &["itpm"],
            15 => &["otpm"],
            20 => &["cost", "budget", "daily_budget", "daily_cost", "spend"],
            _ => &[],
        };
        let is_money = matches!(LIMIT_NAMES[index].1, Resource::Spend);
        let takes = if is_money { Takes::Cost } else { Takes::Limit };
        fields[index] = field(name, takes, also);
        index += 1;
    }
    fields[index] =
        field("concurrency", Takes::Whole, &["parallel", "max_parallel", "max_concurrency"]);
    let mut pacing = 0;
    while pacing < PACING_FIELDS.len() {
        index += 1;
        fields[index] = PACING_FIELDS[pacing];
        pacing += 1;
    }
    fields
};

/// Fields beside the limits of a provider or a model, not allowed for one key.
const PACING_FIELDS: [Field; 5] = [
    field(
        "max_tokens_per_request",
        Takes::Whole,
        &["max_tokens", "max_request_tokens", "tokens_per_request"],
    ),
    field("base_delay", Takes::Seconds, &["delay", "retry_delay", "backoff"]),
    field("max_retries", Takes::Whole, &["retries", "max_attempts"]),
    field("retry_multiplier", Takes::Multiplier, &["multiplier", "factor", "backoff_multiplier"]),
    field("pause_threshold", Takes::SomeShare, &["threshold", "pause_at", "safety_margin"]),
];

/// `limits.<provider>` and `providers.<name>.limits`.
pub(super) const LIMITS: Section = closed(&LIMIT_FIELDS);

/// The limits of one model: no models below.
pub(super) const MODEL_LIMITS: Section = closed(LIMIT_FIELDS.split_at(28).0);

/// The limits of one key: nothing that belongs to a call.
pub(super) const KEY_LIMITS: Section = closed(LIMIT_FIELDS.split_at(23).0);

const USER_FIELDS: [Field; 23] = {
    let mut fields = [field("weight", Takes::SomeWeight, &["share", "priority", "importance"]); 23];
    let mut index = 0;
    while index < LIMIT_NAMES.len() {
        fields[index] = LIMIT_FIELDS[index];
        index += 1;
    }
    fields
};

/// `users.<name>`: a share of the waiting lines, and limits with a period.
pub(super) const USER: Section = closed(&USER_FIELDS);

impl Section {
    /// The field with this name.
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field that was probably meant by `name`, which is none.
    pub(super) fn nearest(&self, name: &str) -> Option<&'static str> {
        self.synonym(name).or_else(|| self.near(name)).map(|field| field.name)
    }

    /// The field that `name` is another word for.
    pub(super) fn synonym(&self, name: &str) -> Option<&'static Field> {
        let name = plain(name);
        self.fields.iter().find(|field| field.also.contains(&name.as_str()))
    }

    /// The field that is spelt almost like `name`.
    pub(super) fn near(&self, name: &str) -> Option<&'static Field> {
        nearest(&plain(name), self.fields.iter().map(|field| field.name))
            .and_then(|name| self.field(name))
    }
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// The first of the names nearest to `name`, if one is near enough to have been meant.
pub(super) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_ascii_lowercase();
    names
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likelier_name_is_suggested() {
        for (section, wrong, right) in [
            (LIMITS, "rpn", Some("rpm")),
            (LIMITS, "requests_per_minute", Some("rpm")),
            (LIMITS, "RPM", Some("rpm")),
            (LIMITS, "conccurrency", Some("concurrency")),
            (PROVIDER, "baseurl", Some("base_url")),
            (PROVIDER, "base-url", Some("base_url")),
            (PROVIDER, "api_key", Some("keys")),
            (KEY, "ky", Some("key")),
            (TOP, "provders", Some("providers")),
            (TOP, "colour", None),
        ] {
            assert_eq!(section.nearest(wrong), right, "{wrong}");
        }
    }

    #[test]
    fn the_sections_cut_from_a_longer_one_end_where_they_should() {
        assert!(LIMITS.field("models").is_some() && MODEL_LIMITS.field("models").is_none());
        assert!(MODEL_LIMITS.field("pause_threshold").is_some());
        assert!(KEY_LIMITS.field("max_tokens_per_request").is_none());
        assert!(KEY_LIMITS.field("concurrency").is_some());
        assert!(
            KEY_LIMITS.field("cost_per_month").is_some()
                && KEY_LIMITS.field("base_delay").is_none()
        );
        assert!(USER.field("weight").is_some() && USER.field("concurrency").is_none());
        assert!(TASK.field("fallback").is_some() && TARGET.field("fallback").is_none());
        assert!(TARGET.field("base_url").is_some());
    }

    #[test]
    fn no_synonym_is_a_field_of_its_own() {
        for section in [
            TOP,
            PROVIDER,
            KEY,
            TASK,
            LIMIT,
            RETRY,
            BUDGET,
            TIMEOUTS,
            QUEUE,
            LIMITS,
            STRATEGY,
            PRICE,
            USER,
            ANSWER_CACHE,
        ] {
            for field in section.fields {
                for also in field.also {
                    assert!(section.field(also).is_none(), "{also} for {}", field.name);
                }
            }
        }
    }
}
