//! What tests of stores share: a ledger with a limit, and one permit of it.

mod compatibility;
mod contract;
#[cfg(target_os = "linux")]
mod full_disk;
mod processes;
mod spoilt_files;

use std::path::Path;
use std::sync::Arc;

use quotaflow::kernel::{
    Amounts, AnswerCharged, Configured, Ledger, LedgerId, Ledgers, Limit, Moment, Period, Refill,
    Resource, Source,
};
use quotaflow::stores::{QuotaStore, SqliteStore, StoreError};

pub(crate) const NOW: Moment = Moment::from_seconds(1_800_000_000);

/// One request.
pub(crate) const ONE: Amounts =
    Amounts { requests: 1, input_tokens: 0, output_tokens: 0, spend: 0 };

pub(crate) fn id(name: &str) -> LedgerId {
    LedgerId::new("openai", name, "*")
}

pub(crate) fn limit(resource: Resource, period: Period, amount: u64, refill: Refill) -> Limit {
    Limit {
        resource,
        period,
        amount: amount.try_into().unwrap(),
        refill,
        source: Source::Configured,
    }
}

/// So many requests in any 24 hours.
pub(crate) fn a_day(requests: u64) -> Configured {
    vec![limit(Resource::Requests, Period::Day, requests, Refill::Rolling)].into()
}

pub(crate) fn sqlite(path: &Path) -> Arc<dyn QuotaStore> {
    Arc::new(SqliteStore::open(path, "salt").unwrap())
}

/// Takes one request if there is one left.
pub(crate) fn take(
    store: &dyn QuotaStore,
    name: &str,
    configured: &Configured,
) -> Result<bool, StoreError> {
    let mut granted = false;
    store.update(&[id(name)], &mut |ledgers| {
        let ledger = ledgers.get_mut(0);
        ledger.conform(configured, NOW);
        granted = ledger.obstacle(&ONE, 0, false, NOW).is_none();
        if granted {
            ledger.take(&ONE, AnswerCharged::AtOnce, NOW);
        }
    })?;
    Ok(granted)
}

/// Looks at one ledger as it is now.
pub(crate) fn look<T>(store: &dyn QuotaStore, name: &str, read: impl Fn(&Ledger) -> T) -> T {
    let mut seen = None;
    let mut act = |ledgers: &mut Ledgers<'_>| seen = Some(read(ledgers.get(0)));
    store.update(&[id(name)], &mut act).unwrap();
    seen.unwrap()
}

/// How many requests were ever sent through a ledger.
pub(crate) fn sent(store: &dyn QuotaStore, name: &str) -> u64 {
    look(store, name, |ledger| ledger.totals().sent)
}

/// How much of each limit is used, once the ledger is under `configured`.
pub(crate) fn used(store: &dyn QuotaStore, name: &str, configured: &Configured) -> Vec<u64> {
    let mut used = Vec::new();
    store
        .update(&[id(name)], &mut |ledgers| {
            ledgers.get_mut(0).conform(configured, NOW);
            used = ledgers.get(0).meters(NOW).into_iter().map(|(_, used, _)| used).collect();
        })
        .unwrap();
    used
}
