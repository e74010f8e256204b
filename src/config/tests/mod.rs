//! Does the config hold what it promises?
