//! The strategy of a route: the order of local, free and paid targets.

use super::error::ConfigError;
use super::reader::Table;
use super::schema;
use super::settings::{LocalTargets, ProviderSettings, Strategy, Wanted};

impl Strategy {
    /// The places of the targets that are asked, in the order in which they are; the first of `route` is the primary.
    pub fn order(&self, route: &[Wanted]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..route.len()).collect();
        places.sort_by_key(|place| self.rank(*place, route[*place]));
        let stays_local =
            !self.fallback_to_api && places.first().is_some_and(|first| route[*first].local);
        places.retain(|place| !stays_local || route[*place].local);
        places
    }

    /// Lower is asked earlier; what is equal stays as it is written.
    fn rank(&self, place: usize, target: Wanted) -> (u8, bool) {
        let side = match (target.named, target.local, self.local) {
            (true, ..) => 0,
            (_, true, LocalTargets::First) => 1,
            (_, true, LocalTargets::Last) => 3,
            _ => 2,
        };
        // The primary was chosen for its quality: only fallbacks are equals among which the price decides.
        (side, self.cost_optimized && place > 0 && !target.free)
    }
}

impl ProviderSettings {
    /// Whether its server is on this machine or in this network: a loopback, private or link-local address, a name
    /// without a dot (`localhost`, `ollama`), or one that ends with `.localhost`, `.local` or `.internal`.
    ///
    /// ```
    /// use quotaflow::config::ProviderSettings;
    /// use quotaflow::providers::Provider;
    /// let at = |url: &str| ProviderSettings::unconfigured(Provider::compatible("box", url)).is_local();
    /// assert!(at("http://192.168.1.7:8000/v1") && at("http://[::1]:1/v1") && at("http://studio.local/v1"));
    /// assert!(!at("https://api.openai.com/v1") && !at("http://172.32.0.1/v1"));
    /// assert!(at("http://ollama:11434") && !at("http://local.example.com/v1"));
    /// ```
    pub fn is_local(&self) -> bool {
        self.provider.is_local()
    }
}

/// Reads `strategy`.
pub(super) fn read(top: &Table<'_>) -> Result<Strategy, ConfigError> {
    let Some(node) = top.get("strategy") else { return Ok(Strategy::default()) };
    let table = node.table(schema::STRATEGY)?;
    let flag = |name, usual| table.get(name).map_or(Ok(usual), |node| node.flag());
    let local = match (flag("use_local_first", false)?, flag("local_last", false)?) {
        (true, true) => {
            return Err(node
                .error("local targets cannot be both first and last")
                .hint("write either `use_local_first` or `local_last`"));
        }
        (true, false) => LocalTargets::First,
        (false, true) => LocalTargets::Last,
        (false, false) => LocalTargets::AsWritten,
    };
    Ok(Strategy {
        local,
        fallback_to_api: flag("fallback_to_api", true)?,
        cost_optimized: flag("cost_optimized", false)?,
    })
}
