"""What hidden layers represent."""
