//! Local servers, recognised by their address.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Hosts that serve for money what is otherwise run at home.
const CLOUDS: [&str; 1] = ["ollama.com"];

/// Endings of names that only a private network knows.
const PRIVATE_ENDINGS: [&str; 5] = [".localhost", ".local", ".lan", ".internal", ".home.arpa"];

/// `self_hosted`: it is software that people run themselves.
pub(super) fn is_local(self_hosted: bool, base_url: &str) -> bool {
    let Ok(url) = Url::parse(base_url) else { return self_hosted };
    match url.host() {
        Some(Host::Ipv4(address)) => self_hosted || near_v4(address),
        Some(Host::Ipv6(address)) => self_hosted || near_v6(address),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let cloud = |known: &&str| {
                name.strip_suffix(*known).is_some_and(|left| left.is_empty() || left.ends_with('.'))
            };
            if CLOUDS.iter().any(cloud) {
                return false;
            }
            // A name without a dot is one of the machine or of its containers.
            self_hosted
                || !name.contains('.')
                || PRIVATE_ENDINGS.iter().any(|ending| name.ends_with(ending))
        }
        None => self_hosted,
    }
}

fn near_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_unspecified()
}

fn near_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return near_v4(mapped);
    }
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_tells_what_is_near() {
        for (base_url, near) in [
            ("http://127.0.0.1:8000/v1", true),
            ("http://127.8.8.8", true),
            ("http://0.0.0.0:8080", true),
            ("http://localhost:8080/v1", true),
            ("http://LOCALHOST.", true),
            ("http://[::1]:8080", true),
            ("http://[::ffff:10.0.0.1]/", true),
            ("http://[fd00::7]/v1", true),
            ("http://[fe80::1]/v1", true),
            ("http://10.1.2.3", true),
            ("http://172.16.0.1", true),
            ("http://172.32.0.1", false),
            ("http://192.168.1.7:8000/v1", true),
            ("http://169.254.1.1", true),
            ("http://llm:8000/v1", true),
            ("http://gpu.lan/v1", true),
            ("http://host.docker.internal:11434", true),
            ("https://api.openai.com/v1", false),
            ("https://8.8.8.8/v1", false),
            ("https://[2606:4700::1]/v1", false),
            ("https://localhost.example.com", false),
            ("", false),
            ("no address", false),
        ] {
            assert_eq!(is_local(false, base_url), near, "{base_url}");
        }
    }

    #[test]
    fn software_of_ones_own_is_near_wherever_it_runs_but_not_in_its_makers_cloud() {
        for (base_url, near) in [
            ("https://gpu.example.com/v1", true),
            ("http://127.0.0.1:11434/v1", true),
            ("", true),
            ("https://ollama.com/v1", false),
            ("https://eu.ollama.com", false),
            ("https://myollama.com", true),
        ] {
            assert_eq!(is_local(true, base_url), near, "{base_url}");
        }
    }
}
