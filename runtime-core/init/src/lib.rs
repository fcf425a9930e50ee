//! The script.
#![no_std]
