"""The Hub: addresses -> local folders, a folder -> one commit. Nothing else talks to it."""
