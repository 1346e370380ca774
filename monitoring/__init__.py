"""What the stack shows of itself: an exporter, Prometheus' rules, and one dashboard (docs/monitoring.md)."""
