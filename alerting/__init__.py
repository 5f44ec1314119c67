"""What people act on: alert lifecycle, work orders, customer health and churn flags, delivery."""
