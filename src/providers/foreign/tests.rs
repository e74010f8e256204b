//! Is every way to write an error read as what it is?
