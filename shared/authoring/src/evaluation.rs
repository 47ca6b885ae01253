//! A bundle judged on labelled samples: numbers, a page for people, and two bundles side by side.
